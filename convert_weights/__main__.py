"""Converts pretrained ViT weights into the parameter names of this package.

  python -m convert_weights mae_pretrain_vit_base.pth --out=weights/mae_base.safetensors

Exit status: 0 done, 2 a wrong command line or output path, 3 a source that cannot be
converted. A failed run leaves no output file.
"""

import argparse
import json
import sys
from pathlib import Path

from convert_weights import sources, targets
from convert_weights.convert import ConversionError, convert, read_encoder
from convert_weights.rules import KINDS, detect_kind

_USAGE, _BAD_INPUT = 2, 3
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


def main(argv: list[str] | None = None) -> int:
    """Runs the command line and returns its exit status."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.out is None and not (args.inspect or args.dry_run):
        parser.error("--out=FILE.safetensors is needed (or --dry-run, --inspect)")
    if args.out is not None:
        try:
            targets.check_target(args.out, args.source)
        except ValueError as error:
            return _fail(error, _USAGE)
    try:
        return _run(args)
    except (FileNotFoundError, sources.SourceError, ConversionError) as error:
        return _fail(error, _BAD_INPUT)
    except OSError as error:
        return _fail(f"{error.filename or args.source}: {error.strerror}", _BAD_INPUT)


def _run(args: argparse.Namespace) -> int:
    tensors = sources.read_source(args.source)
    sha256 = sources.digest(args.source)
    detected = detect_kind(tensors)
    print(f"read {args.source}: {len(tensors)} tensors, sha256 {sha256}")
    kind = args.kind or detected
    if kind is not None:
        print(f"kind {kind} ({'given' if args.kind else 'told from the names'})")
    if args.inspect:
        for name in sorted(tensors):
            print(f"  {name} {tensors[name].shape} {tensors[name].dtype}")
        return 0
    if kind is None:
        first = ", ".join(sorted(tensors)[:3])
        raise sources.SourceError(
            f"{args.source}: the names ({first}, ...) belong to no known kind. "
            f"Known kinds: {', '.join(KINDS)}. Choose one with --kind."
        )

    params, dropped = convert(tensors, KINDS[kind])
    encoder = read_encoder(params)
    size = sum(value.size for value in params.values())
    print(
        f"{encoder.architecture}: {encoder.depth} blocks of width {encoder.width}, "
        f"{len(params)} parameters with {size:,} values"
    )
    print(f"dropped by rule: {', '.join(dropped) or 'nothing'}")
    if args.dry_run:
        print("dry run: nothing written")
        return 0
    metadata = {
        "format": "exits_jax",
        "exits_jax_version": _version(),
        "source": args.source.name,
        "source_sha256": sha256,
        "kind": kind,
        "architecture": encoder.architecture,
        "width": str(encoder.width),
        "depth": str(encoder.depth),
        "patch_size": str(encoder.patch_size),
        "mlp_width": str(encoder.mlp_width),
        "image_mean": json.dumps(args.image_mean),
        "image_std": json.dumps(args.image_std),
        "licence": args.licence,
    }
    try:
        targets.write_safetensors(args.out, params, metadata)
    except OSError as error:
        return _fail(f"--out={args.out}: {error.strerror or error}.", _USAGE)
    print(f"wrote {args.out}: sha256 {sources.digest(args.out)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m convert_weights",
        description="Converts pretrained ViT weights (timm, DeiT and MAE names).",
    )
    parser.add_argument(
        "source", type=Path, help=".safetensors, .pth, .pt or .bin file"
    )
    parser.add_argument("--out", type=Path, help="the .safetensors file to write")
    parser.add_argument(
        "--kind", choices=list(KINDS), help="default: told from the tensor names"
    )
    parser.add_argument(
        "--image-mean",
        type=_three_numbers,
        default=_IMAGENET_MEAN,
        help="R,G,B of images in [0, 1] (default: ImageNet's); stored with the weights",
    )
    parser.add_argument(
        "--image-std", type=_three_numbers, default=_IMAGENET_STD, help="likewise"
    )
    parser.add_argument(
        "--licence", default="unknown", help="of the source; stored with the weights"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="convert and check, write nothing"
    )
    parser.add_argument(
        "--inspect", action="store_true", help="only list what the source holds"
    )
    return parser


def _three_numbers(text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 3 or not all(0 < x <= 1 for x in numbers):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected three numbers in (0, 1], as in 0.485,0.456,0.406"
        )
    return numbers


def _version() -> str:
    from exits_jax import __version__

    return __version__


def _fail(error: Exception | str, status: int) -> int:
    print(f"convert_weights: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
