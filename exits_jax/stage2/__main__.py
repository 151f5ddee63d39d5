"""Command line of stage 2: from pseudo masks to a detector and its mask AP.

python -m exits_jax.stage2 configs/mmdet/solov2_r50_fpn_3x.py \
    --train=runs/coco/pseudo_masks.json --images=data/coco/train2017 \
    --val=data/coco/instances_val2017.json --val-images=data/coco/val2017 \
    --workdir=runs/coco/stage2/solov2_r50_fpn_3x
"""

import argparse
import logging
import os
import signal
import sys
import warnings
from pathlib import Path

from exits_jax.files.words import fail

OK, FAILED, BAD_INPUT, TRY_AGAIN, INTERRUPTED = 0, 1, 3, 75, 130


def main(arguments: list[str] | None = None) -> int:
    """Does what the arguments say; returns the exit status."""
    given = vars(_parser().parse_args(arguments))
    _set_up(given.pop("device"))
    given["val_images"] = given["val_images"] or given["images"]
    try:
        from exits_jax.stage2.errors import Stage2Error
        from exits_jax.stage2.run import Task, run
        from exits_jax.stage2.stop import Stopped, stop
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("exits_jax"):
            raise
        return fail(
            f"Stage 2 needs the package {error.name}: make its environment with `make "
            "stage2-env` and use .venv-stage2/bin/python.",
            BAD_INPUT,
        )
    actions = {name: given.pop(name) for name in ("check", "check_only", "test_only")}
    before = signal.signal(signal.SIGTERM, stop)
    try:
        run(Task(**given | {"options": tuple(given["options"])}), **actions)
    except Stage2Error as error:
        return fail(error, BAD_INPUT)
    except OSError as error:
        where = given["workdir"] if error.filename is None else error.filename
        said = f"{where}: {error.strerror or error}. Files that were finished are kept."
        return fail(said, BAD_INPUT)
    except Stopped as error:
        return fail(f"{error} Run the same command again to go on.", TRY_AGAIN)
    except KeyboardInterrupt:
        return fail("Interrupted. Run the same command again to go on.", INTERRUPTED)
    finally:
        signal.signal(signal.SIGTERM, before)
    return OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m exits_jax.stage2",
        description="Trains an mmdet model on pseudo masks and measures its mask AP.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("config", type=Path, help="mmdet config, such as one of configs/mmdet")
    add("--train", type=Path, required=True, help="pseudo masks, COCO JSON")
    add("--images", type=Path, required=True, help="folder of its images")
    add("--val", type=Path, required=True, help="true masks to evaluate on, COCO JSON")
    add("--val-images", type=Path, help="folder of its images (default: --images)")
    add("--workdir", type=Path, required=True)
    add(
        "--supervision",
        default="pseudo",
        choices=("pseudo", "masks", "boxes"),
        help="masks: the true ones of --masks; boxes: each box of --train filled",
    )
    add("--masks", type=Path, help="true masks of the training split, COCO JSON")
    add(
        "--single-class",
        action="store_true",
        help="all classes as one, 'object', in training and test",
    )
    add("--dataset", default="custom", help="its name in tables: coco, lvis, voc, ...")
    add("--init", help="local weights of the backbone, or 'random'")
    add("--epochs", type=int, help="another length; the schedule is scaled")
    add("--iterations", type=int, help="likewise")
    add(
        "--set",
        dest="options",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="overrides a field of the config; may be given again",
    )
    add("--separated-ids", type=Path, help="list of separated objects of --val")
    add("--occluded-ids", type=Path, help="list of occluded objects of --val")
    add("--seed", type=int, default=0)
    add("--device", default="auto", choices=("auto", "cpu"))
    add("--launcher", default="none", choices=("none", "pytorch", "slurm"))
    add(
        "--no-check",
        dest="check",
        action="store_false",
        help="leave out the check of the files, after --check-only",
    )
    add("--check-only", action="store_true", help="check the files, then end")
    add("--test-only", action="store_true", help="evaluate the newest checkpoint")
    return parser


def _set_up(device: str) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    # Of packages frozen at older versions; nothing that a user could mend.
    for module in ("mmengine", "mmcv", "mmdet", "torch", "pycocotools", "importlib"):
        warnings.filterwarnings("ignore", module=module)
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


if __name__ == "__main__":
    sys.exit(main())
