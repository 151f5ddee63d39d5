"""The options of `exits-jax predict`."""

import argparse
from pathlib import Path
from typing import NoReturn

from exits_jax.cli.words import UsageError
from exits_jax.exporters.formats import KINDS as FORMATS
from exits_jax.importers.kinds import KINDS

_EXAMPLES = """\
examples:
  exits-jax predict photo.jpg --clicks="48,20 12,51 60,83 91,40" \\
      --model=runs/quickstart --out=mask.png
  exits-jax predict clicks.json --images=photos --model=generator.safetensors \\
      --out=masks.json
  exits-jax predict cvat.zip --kind=cvat --images=photos \\
      --model=walk:encoder.safetensors --format=labelme --out=labelme
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message[0].upper()}{message[1:]}. See {self.prog} --help.")


def parser() -> argparse.ArgumentParser:
    """All options."""
    made = _Parser(
        prog="exits-jax predict",
        description="Masks for new clicks or boxes: of one image, or of an annotation "
        "file of any kind that `import` reads. Started again, it goes on where it was "
        "stopped.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument(
        "source", type=Path, metavar="SOURCE", help="an annotation file, or an image"
    )
    made.add_argument(
        "--model",
        required=True,
        help="folder of a finished run, a generator's .safetensors file, or "
        "walk:ENCODER.safetensors, which needs no training",
    )
    made.add_argument(
        "--out",
        type=Path,
        required=True,
        help="what to write: a COCO JSON (of an image: .png or .json), or the folder "
        "of another --format",
    )
    _add_file_options(made.add_argument_group("an annotation file"))
    _add_image_options(made.add_argument_group("one image"))
    _add_model_options(made.add_argument_group("the model"))
    return made


def _add_file_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--images", type=Path, help="the folder that its file names are relative to"
    )
    group.add_argument(
        "--kind",
        choices=("coco", *KINDS),
        default="coco",
        help="its format (coco: instances with extreme_points or bbox)",
    )
    group.add_argument(
        "--format",
        choices=FORMATS,
        default="coco",
        help="format of what is written; docs/exporting.md",
    )
    group.add_argument(
        "--tolerance-px",
        type=float,
        default=0.0,
        metavar="PX",
        help="polygons for people to edit: how far an outline may move (0: exact)",
    )
    group.add_argument(
        "--max-skip-fraction",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="share of records or images that may be unusable (0.5)",
    )
    group.add_argument(
        "--follow-links",
        action="store_true",
        help="allow links in the image folder that lead out of it",
    )
    group.add_argument(
        "--batch-size",
        type=_positive,
        metavar="N",
        help="crops at once (default: that of the model's run, 32)",
    )


def _add_image_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--clicks",
        action="append",
        type=_points,
        default=[],
        metavar='"X,Y X,Y X,Y X,Y"',
        help="the four outermost points of an object in any order, px; repeat it for "
        "more objects",
    )
    group.add_argument(
        "--box",
        action="append",
        type=_box,
        default=[],
        metavar="LEFT,TOP,RIGHT,BOTTOM",
        help="an object by its box alone, px; may be repeated",
    )
    group.add_argument(
        "--overlay",
        action="store_true",
        help="draw masks and clicks over the image, instead of the bare mask",
    )


def _add_model_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--weights",
        choices=("student", "teacher", "both"),
        help="of a run (default: as it makes its masks)",
    )
    group.add_argument(
        "--threshold",
        type=_share,
        help="probability above which a pixel is mask (default: the model's)",
    )
    group.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="of activations (default: the model's)",
    )


def _numbers(text: str, count: int, expected: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(word) for word in text.replace(",", " ").split())
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        raise argparse.ArgumentTypeError(f"{text!r:.80}: expected {expected}")
    return numbers


def _points(text: str) -> list[tuple[float, ...]]:
    expected = 'four points in pixels, as "48,20 12,51 60,83 91,40"'
    numbers = _numbers(text, 8, expected)
    return [numbers[k : k + 2] for k in range(0, 8, 2)]


def _box(text: str) -> tuple[float, ...]:
    return _numbers(text, 4, "left,top,right,bottom in pixels, as 12,20,92,84")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r:.40}: expected a positive number")
    return int(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r:.40}: expected a number in (0, 1)")
    return value
