"""The options of `exits-jax annotate`."""

import argparse
import os
from pathlib import Path
from typing import NoReturn

from exits_jax.cli.words import UsageError

TOOLS = ("label_studio", "x_anylabeling", "cvat")  # of `--speak`
_EXAMPLES = """\
examples:
  exits-jax annotate photos --model=runs/quickstart --out=clicks.json \\
      --classes=car,person --open
  exits-jax annotate photos --model=walk:encoder.safetensors --out=clicks.json
  exits-jax annotate photos --points --out=clicks.json
  exits-jax annotate photos --review=runs/voc/pseudo_masks.json --out=reviewed.json
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message[0].upper()}{message[1:]}. See {self.prog} --help.")


def parser() -> argparse.ArgumentParser:
    """All options."""
    made = _Parser(
        prog="exits-jax annotate",
        description="A page in the browser: four clicks on an object give its mask. "
        "Everything is kept as it is made; started again, it goes on.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    add("folder", type=Path, metavar="FOLDER", help="the images")
    add(
        "--out",
        type=Path,
        required=True,
        help="the COCO JSON to write; beside it are OUT.journal.jsonl and OUT.lock",
    )
    add(
        "--model",
        help="folder of a finished run, a generator's .safetensors file, or "
        "walk:ENCODER.safetensors; without it, clicks now and masks later by predict",
    )
    add(
        "--classes",
        default="",
        help="names, separated by commas, or a file with one name a line (object)",
    )
    add("--points", action="store_true", help="only clicks, as fast as can be")
    add("--review", type=Path, metavar="MASKS", help="a COCO JSON of masks to look at")
    add(
        "--weights",
        choices=("student", "teacher", "both"),
        help="of a run (default: as it makes its masks)",
    )
    add(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="of activations (default: the model's)",
    )
    add("--port", type=int, default=0, help="of the page (0: any that is free)")
    add(
        "--host",
        default="127.0.0.1",
        help="address to listen on; another than this machine's own needs --token",
    )
    add("--token", default="", help="what the address must hold (default: a new one)")
    add(
        "--speak",
        default="",
        metavar="TOOLS",
        help="also make masks for other tools, named and separated by commas: "
        f"{', '.join(TOOLS)}",
    )
    add(
        "--allow",
        default="",
        metavar="ADDRESSES",
        help="from which CVAT, which has no token, may ask beside this machine; needs "
        "--host and --token",
    )
    add("--open", action="store_true", help="open the page in the browser")
    return made


def names_of(classes: str) -> list[str]:
    """The names of classes, from a file or as they stand.

    Raises:
        UsageError: If a file has none.
    """
    if not classes:
        return []
    path = Path(classes)
    is_file = os.path.isfile(classes)  # False, too, of names longer than a path
    if path.suffix == ".txt" or is_file:
        if not is_file:
            raise UsageError(f"--classes: there is no file {path}.")
        names = path.read_text(encoding="utf-8").splitlines()
    else:
        names = classes.split(",")
    names = [name.strip() for name in names if name.strip()]
    if not names:
        raise UsageError(f"--classes={classes}: there is no name in it.")
    return list(dict.fromkeys(names))
