"""The options of the command line."""

import argparse
from pathlib import Path

from . import exports, runs
from .rules import KINDS


def parser() -> argparse.ArgumentParser:
    """All options of `python -m convert_weights`."""
    found = argparse.ArgumentParser(
        prog="exits-jax convert",
        description="Converts ViT weights and whole generators, from and to PyTorch, "
        "and to ONNX.",
        epilog="Kinds and examples: docs/weights.md",
    )
    found.add_argument(
        "source",
        type=Path,
        help=".safetensors, .pth, .pt, .bin, .ckpt or .npz file, a Hugging Face folder "
        "or the workdir of a finished run",
    )
    found.add_argument(
        "--out",
        type=Path,
        help="the .safetensors file to write (--to=hf: a folder, --to=onnx: .onnx)",
    )
    found.add_argument(
        "--to", choices=exports.TARGETS, default="exits_jax", help="names to write"
    )
    found.add_argument(
        "--kind", choices=list(KINDS), help="default: told from the tensor names"
    )
    found.add_argument(
        "--weights",
        choices=list(runs.WEIGHTS),
        help="which of a run's two models (default: what the run makes masks with)",
    )
    found.add_argument(
        "--grid",
        type=_positive,
        help="interpolate the position table to GRID x GRID patches",
    )
    found.add_argument(
        "--patch-size", type=_positive, help="resample the patch embedding to this, px"
    )
    found.add_argument(
        "--heads", type=_positive, help="of the attention, where nothing else says it"
    )
    found.add_argument(
        "--image-mean",
        type=_three_numbers,
        help="R,G,B of images in [0, 1] (default: the source's, or ImageNet's, or 0.5 "
        "for .npz); stored with the weights",
    )
    found.add_argument("--image-std", type=_three_numbers, help="likewise")
    found.add_argument("--licence", help="of the source; stored with the weights")
    found.add_argument(
        "--dry-run",
        action="store_true",
        help="convert and check, print what goes where, write nothing",
    )
    found.add_argument(
        "--inspect", action="store_true", help="only summarise what the source holds"
    )
    return found


def _positive(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 512:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 1 to 512")
    return int(text)


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
