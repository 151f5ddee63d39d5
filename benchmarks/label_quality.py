"""EXITS against its MIL + CRF baseline at equal length, and against the floors.

python -m benchmarks.label_quality --config=configs/quickstart.py

Takes a work directory in which every phase is finished and trains the baseline beside
it (`WORKDIR-mil_crf`): same annotations, same start of the generator, same number of
steps, same crops. Prints one table and writes `label_quality.json` into WORKDIR.
"""

import json
import shutil
from pathlib import Path

from absl import app, flags
from absl import logging as absl_logging

from benchmarks.configuration import given, other_words
from exits_jax.export.evaluation import format_table
from exits_jax.export.files import write_json
from exits_jax.main import PHASES, log_to
from exits_jax.phases.check_config import check_config
from exits_jax.phases.workdir import ConfigError, Workdir

SHARED = (
    "annotations",
    "phases/prepare.json",
    "phases/pretrain.json",
    "phases/warmup.json",
    "checkpoints/pretrain",
    "checkpoints/warmup",
    "checkpoints/start",
)
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
    config.loss.method = "mil_crf"
    config.generate.splits = (
        json.loads((ours / "evaluation.json").read_text())["split"],
    )
    config.workdir = str(theirs.path)
    check_config(config)
    theirs.open(config)
    log_to(theirs)
    for name in SHARED:
        _copy(ours / name, theirs / name)
    for run in PHASES.values():
        run(config, theirs)
    exits, baseline = (
        json.loads((folder / "evaluation.json").read_text())
        for folder in (ours, theirs)
    )
    floors = exits["floors"]
    table = {"EXITS": exits, "MIL + CRF": baseline}
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
