"""Converts ViT weights and generators into the names of this package, and back.

  python -m convert_weights mae_pretrain_vit_base.pth --out=weights/mae_base.safetensors
  python -m convert_weights runs/voc --out=weights/voc_generator.safetensors
  python -m convert_weights weights/voc_generator.safetensors --to=timm --out=FILE

Exit status: 0 done, 2 a wrong command line or output path, 3 a source that cannot be
converted. A failed run leaves no output file.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from exits_jax.files.words import lines

from . import (
    exports,
    facts,
    lacks,
    onnx_file,
    options,
    resize,
    runs,
    sources,
    targets,
)
from .convert import ConversionError, Converted, convert
from .rules import KINDS, detect_kind
from .shapes import is_generator, read_encoder

_USAGE, _BAD_INPUT = 2, 3
DECODER = {"size_dependent": True, "fixed_scale": 1.0, "upsample_before": 4}
_OWN = ("format", "exits_jax_version", "contents")  # never taken from a source


class _Source(NamedTuple):
    tensors: dict[str, np.ndarray]
    metadata: dict[str, str]  # of a run; read later for files
    sha256: str
    kind: str | None
    name: str


def main(argv: list[str] | None = None) -> int:
    """Runs the command line and returns its exit status."""
    parser = options.parser()
    args = parser.parse_args(argv)
    if args.out is None and not (args.inspect or args.dry_run):
        suffix = targets.suffix_of(args.to)
        parser.error(f"--out=FILE{suffix} is needed (or --dry-run, --inspect)")
    if args.out is not None:
        try:
            targets.check_target(args.out, args.source, target=args.to)
        except ValueError as error:
            return _fail(error, _USAGE)
    try:
        if args.to == "onnx":
            onnx_file.check_packages()
        return _run(args)
    except (FileNotFoundError, sources.SourceError, ConversionError) as error:
        return _fail(error, _BAD_INPUT)
    except OSError as error:
        return _fail(f"{error.filename or args.source}: {error.strerror}", _BAD_INPUT)


def _run(args: argparse.Namespace) -> int:
    source = _read(args)
    if args.inspect:
        return _inspect(source, args.source)
    if source.kind is None:
        first = ", ".join(sorted(source.tensors)[:3])
        raise sources.SourceError(
            f"{args.source}: the names ({first}, ...) belong to no known kind. "
            f"Known kinds: {', '.join(KINDS)}. Choose one with --kind."
        )
    converted = convert(source.tensors, KINDS[source.kind])
    print(_summary(converted))
    params = converted.params
    metadata = _metadata(args, source, params)
    try:
        if args.patch_size is not None:
            params, said = resize.resize_patches(params, args.patch_size)
            print(said)
    except ValueError as error:
        return _fail(error, _USAGE)
    if args.grid is not None:
        params, said = resize.resize_positions(params, args.grid)
        print(said)
    metadata |= _sizes(params, metadata)
    lacks.refuse_walk(params, metadata, args.to)
    tensors = exports.export(params, args.to)
    for remark in lacks.left_out(params, metadata, args.to):
        print(f"note: {remark}")
    if args.to in ("hf", *exports.WHOLE) and "heads" not in metadata:
        return _fail(f"{args.source}: --to={args.to} needs --heads=NUMBER.", _USAGE)
    if args.dry_run:
        _print_table(converted, source.tensors)
        print("dry run: nothing written")
        return 0
    try:
        return _write(args, params, tensors, metadata)
    except OSError as error:
        return _fail(f"--out={args.out}: {error.strerror or error}.", _USAGE)


def _write(
    args: argparse.Namespace,
    params: dict[str, np.ndarray],
    tensors: dict[str, np.ndarray],
    metadata: dict[str, str],
) -> int:
    if args.to == "hf":
        documents = {
            "config.json": exports.hf_config(params, int(metadata["heads"])),
            "preprocessor_config.json": {
                "image_mean": json.loads(metadata["image_mean"]),
                "image_std": json.loads(metadata["image_std"]),
            },
        }
        targets.write_folder(args.out, tensors, metadata, documents)
        print(f"wrote {args.out}: {', '.join(['model.safetensors', *documents])}")
        return 0
    write = onnx_file.write_onnx if args.to == "onnx" else targets.write_safetensors
    write(args.out, tensors, metadata)
    print(f"wrote {args.out}: sha256 {sources.digest(args.out)}")
    return 0


def _read(args: argparse.Namespace) -> _Source:
    path = args.source
    if runs.is_run(path):
        tensors, metadata, folder = runs.read_run(path, args.weights)
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        which = metadata["weights"]
        print(f"read {folder}: {len(tensors)} parameters of the {which}")
        sha256 = sources.digest(*files)
        return _Source(tensors, metadata, sha256, "exits_jax", f"{path.name} (a run)")
    tensors = sources.read_source(path)
    sha256 = sources.digest(*sources.files_of(path))
    print(f"read {path}: {len(tensors)} tensors, sha256 {sha256}")
    kind = args.kind or detect_kind(tensors)
    if kind is not None:
        print(f"kind {kind} ({'given' if args.kind else 'told from the names'})")
    return _Source(tensors, {}, sha256, kind, path.name)


def _inspect(source: _Source, path: Path) -> int:
    metadata = source.metadata or sources.read_metadata(path)
    for name, value in sorted(metadata.items()):
        print(f"  {name}: {value}")
    if source.kind is not None:
        try:
            print(_summary(convert(source.tensors, KINDS[source.kind])))
        except ConversionError as error:
            print(f"cannot be converted: {error}")
    for name in sorted(source.tensors):
        value = source.tensors[name]
        print(f"  {name} {value.shape} {value.dtype}")
    return 0


def _summary(converted: Converted) -> str:
    params = converted.params
    encoder = read_encoder(params)
    size = sum(value.size for value in params.values())
    what = "generator of " if is_generator(params) else ""
    return (
        f"{what}{encoder.architecture}: {encoder.depth} blocks of width "
        f"{encoder.width}, positions {encoder.grid}x{encoder.grid}, "
        f"{len(params)} parameters with {size:,} values\n"
        f"dropped by rule: {', '.join(converted.dropped) or 'nothing'}"
    )


def _print_table(converted: Converted, tensors: dict[str, np.ndarray]) -> None:
    """What goes where."""
    for name, value in converted.params.items():
        came = converted.origin[name]
        shape = tensors[came[0]].shape  # of each
        print(f"  {', '.join(came)} {shape} -> {name} {value.shape}")
    for name in converted.dropped:
        print(f"  {name} {tensors[name].shape} -> dropped")


def _metadata(
    args: argparse.Namespace, source: _Source, params: dict[str, np.ndarray]
) -> dict[str, str]:
    """Where the weights come from, and what their user has to know."""
    kind = source.kind or ""
    own = {"source": source.name, "source_sha256": source.sha256, "kind": kind}
    if source.metadata:
        said, remarks = source.metadata, []
    else:
        said, remarks = facts.facts_of(args.source, kind, read_encoder(params))
    for remark in remarks:
        print(f"note: {remark}")
    said = {name: value for name, value in said.items() if name not in _OWN}
    metadata = {
        "image_mean": json.dumps(facts.IMAGENET[0]),
        "image_std": json.dumps(facts.IMAGENET[1]),
        "licence": "unknown",
        **own,
        **said,  # one of our files names its first source
        "format": {"exits_jax": "exits_jax", "onnx": "onnx"}.get(args.to, "pt"),
        "exits_jax_version": _version(),
    }
    given = {
        "image_mean": args.image_mean and json.dumps(args.image_mean),
        "image_std": args.image_std and json.dumps(args.image_std),
        "licence": args.licence,
        "heads": args.heads and str(args.heads),
    }
    return metadata | {name: value for name, value in given.items() if value}


def _sizes(params: dict[str, np.ndarray], metadata: dict[str, str]) -> dict[str, str]:
    encoder = read_encoder(params)
    sizes = {
        "architecture": encoder.architecture,
        "width": str(encoder.width),
        "depth": str(encoder.depth),
        "patch_size": str(encoder.patch_size),
        "mlp_width": str(encoder.mlp_width),
        "grid": str(encoder.grid),
        "contents": "generator" if is_generator(params) else "encoder",
    }
    heads = metadata.get("heads", encoder.heads)
    if heads is not None:
        sizes["heads"] = str(heads)
    if is_generator(params):
        sizes["decoder"] = metadata.get("decoder", json.dumps(DECODER))
    return sizes


def _version() -> str:
    from exits_jax import __version__

    return __version__


def _fail(error: Exception | str, status: int) -> int:
    print(f"convert_weights: {lines(error)}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
