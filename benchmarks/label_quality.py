"""EXITS against its MIL + CRF baseline at equal length, and against the floors.

python -m benchmarks.label_quality --config=configs/quickstart.py

Takes a work directory in which every phase is finished and trains the baseline beside
it (`WORKDIR-mil_crf`): same annotations, same start of the generator, same number of
steps, same crops, and the same CRF on the masks as they are made; without what knows of
the clicks. Prints one table and writes `label_quality.json` into WORKDIR.
`benchmarks.compare_masks` gives the interval of the difference.
"""

import copy
import json
import os
import shutil
from pathlib import Path
from typing import Any

import ml_collections as mlc
from absl import app, flags
from absl import logging as absl_logging

from benchmarks.common.configuration import given, other_words
from exits_jax.data.table import Instances
from exits_jax.evaluation.iou import Summary, format_table
from exits_jax.files.json_files import write_json
from exits_jax.main import PHASES, log_to
from exits_jax.run.check_config import check_config
from exits_jax.run.prepared import columns_folder
from exits_jax.run.workdir import ConfigError, Workdir

SHARED = (
    "annotations",
    "scenes",
    "voc",
    "similarity.json",
    "phases/prepare.json",
    "phases/pretrain.json",
    "phases/warmup.json",
    "checkpoints/pretrain",
    "checkpoints/warmup",
)
START = "checkpoints/start"
# What the baseline does otherwise: its losses, and no part that reads the clicks.
BASELINE = {
    "loss.method": "mil_crf",
    "prompt.enabled": False,
    "generate.source": "generator",
    "generate.click_depth": 0.0,
}
_WORKDIR = flags.DEFINE_string("workdir", None, "Overrides config.workdir.")
flags.mark_flag_as_required("config")


def main(_) -> None:
    """Trains the baseline and prints both."""
    absl_logging.set_verbosity(absl_logging.WARNING)
    config = given()
    ours = Workdir(_WORKDIR.value or config.workdir)
    if not ours.is_finished("evaluate"):
        raise ConfigError(f"{ours.path} is not finished: run exits_jax.main first.")
    theirs = Workdir(f"{ours.path}-mil_crf")
    split = json.loads((ours / "evaluation.json").read_text())["split"]
    baseline_config = baseline_of(config)
    baseline_config.generate.splits = (split,)
    baseline_config.workdir = str(theirs.path)
    check_config(baseline_config)
    theirs.open(baseline_config)
    log_to(theirs)
    take_over(config, ours, theirs)
    for run in PHASES.values():
        run(baseline_config, theirs)
    exits, baseline = (
        json.loads((folder / "evaluation.json").read_text())
        for folder in (ours, theirs)
    )
    floors = exits["floors"]
    table = {"EXITS": groups_of(exits), "MIL + CRF": groups_of(baseline)}
    table |= {name.replace("_", " "): floors[name] for name in floors}
    print(format_table(table))
    lead = {
        group: exits[group]["object_miou"] - baseline[group]["object_miou"]
        for group in ("all", "separated")
        if exits[group]["count"]
    }
    for group, points in lead.items():
        print(f"EXITS leads MIL + CRF by {100 * points:.1f} points on {group} objects")
    write_json(
        ours / "label_quality.json",
        {"exits": exits, "mil_crf": baseline, "floors": floors, "lead": lead},
        indent=2,
    )


def baseline_of(config: mlc.ConfigDict) -> mlc.ConfigDict:
    """A copy of a configuration that trains MIL + CRF instead, without the clicks.

    All else stays: steps, start, crops, and how its masks are made and refined.
    """
    baseline = copy.deepcopy(config)
    for name, value in BASELINE.items():
        section, field = name.split(".")
        baseline[section][field] = value
    return baseline


def shared_files(config: mlc.ConfigDict) -> tuple[str, ...]:
    """What the baseline takes over from a run: nothing that the clicks had a part in.

    A generator that reads clicks has further parameters, so its start is of no use.
    """
    is_alike = config.get("prompt") == baseline_of(config).get("prompt")
    return (*SHARED, START) if is_alike else SHARED


def take_over(config: mlc.ConfigDict, ours: Workdir, theirs: Workdir) -> None:
    """Gives the baseline what a run has before it trains.

    Files that were shared are copied; what else of the data lies in the folder of the
    run, as imported annotations and images do, is linked.
    """
    for name in shared_files(config):
        _copy(ours / name, theirs / name)
    for name in _data_inside(ours):
        if not (theirs / name).exists():
            (theirs / name).symlink_to(os.path.abspath(ours / name))


def _data_inside(workdir: Workdir) -> list[str]:
    """What the data of a run lie in or are, of the names right inside its folder."""
    facts, top = workdir.facts("prepare"), os.path.abspath(workdir.path)
    kept = [*facts["sources"].values(), *facts.get("images", {}).values()]
    paths = {str(workdir.find(path)) for path in kept}
    for split in facts["sources"]:
        paths.update(Instances.open(columns_folder(workdir, split)).paths)
    below = (os.path.relpath(path, top) for path in paths)
    return sorted({Path(path).parts[0] for path in below if path != "."} - {".."})


def groups_of(found: dict[str, Any]) -> Summary:
    """What an `evaluation.json` says of groups of objects, without the rest."""
    return {
        name: group
        for name, group in found.items()
        if isinstance(group, dict) and "object_miou" in group
    }


def _copy(source: Path, target: Path) -> None:
    """Copies a file or folder that is not there yet; a missing source is no fault."""
    if target.exists() or not source.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy2(source, target)


if __name__ == "__main__":
    app.run(main, argv=other_words())
