"""Command line of the ablations: whole tables of the paper, end to end.

python -m exits_jax.ablations --table=table_5 --base=custom:cpu \
    --config.data.train=FILE.json --config.data.images=FOLDER --val=FILE.json \
    --stage2_config=solov2_r50_fpn_3x
"""

import argparse
import shlex
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

import ml_collections as mlc

from exits_jax.ablations.rows import (
    PLAIN,
    Row,
    digest_of,
    read_overrides,
    resolve,
    rows_of,
)
from exits_jax.ablations.run import (
    Run,
    Stopped,
    commands,
    duration,
    run_logged,
    run_rows,
)
from exits_jax.ablations.steps import Model, Settings
from exits_jax.ablations.tables import write_table
from exits_jax.cli.words import UsageError
from exits_jax.configs.ablations import DEFAULT_BASE, TABLES, folder
from exits_jax.exit_status import FAILED, INTERRUPTED, OK, TRY_AGAIN, USAGE
from exits_jax.files.locks import InUse, take_lock
from exits_jax.files.words import fail
from exits_jax.phases.stage2 import folder_name, mmdet_config
from exits_jax.run.workdir import ConfigError

# Flags with a short name, and the field that they set in every row.
FIELDS = {
    "val": "data.val",
    "val_images": "data.val_images",
    "stage2_python": "stage2.python",
}


def main(argv: Sequence[str], *, run: Run = run_logged) -> int:
    """Does what the flags say; returns the exit status.

    Args:
        argv: The flags, without the name of the program.
        run: Runs one command.
    """
    try:
        asked, tables, settings = read_flags(argv)
        if asked.dry_run:
            print("\n".join(commands(tables, settings)))
            return OK
        lock = _lock(settings.out)
    except UsageError as error:
        return fail(error, USAGE)
    command = shlex.join(["python", "-m", "exits_jax.ablations", *argv])
    try:
        with lock:
            return _run(tables, settings, base=asked.base, command=command, run=run)
    except Stopped as stop:
        return fail("Stopped. Run the same command again to go on.", stop.status)
    except KeyboardInterrupt:
        said = "Interrupted. Run the same command again to go on."
        return fail(said, INTERRUPTED)


def read_flags(
    argv: Sequence[str],
) -> tuple[argparse.Namespace, dict[str, list[Row]], Settings]:
    """The flags of the driver, the rows they ask for, and what is common to those.

    Raises:
        UsageError: If a flag makes no sense, or stage 2 has no model to train.
    """
    asked, others = _parser().parse_known_args(argv)
    for flag in others:
        if flag.startswith(("--config.workdir", "--workdir", "--phase")):
            raise UsageError(f"{flag}: each row has a workdir of its own, below --out.")
        if not flag.startswith("--config."):
            raise UsageError(
                f"{flag}: unknown; see --help. Fields of the configuration are written "
                "--config.FIELD=VALUE."
            )
    given = {field: getattr(asked, name) for name, field in FIELDS.items()}
    overrides = [f"--config.{field}={v}" for field, v in given.items() if v is not None]
    out = Path(asked.out or folder(asked.base))
    if not any(flag.startswith("--config.compilation_cache") for flag in others):
        overrides.append(f"--config.compilation_cache={out / 'compilation_cache'}")
    overrides += others
    values = read_overrides(asked.base, overrides)
    tables = rows_of(asked.table, base=asked.base, values=values)
    stage2 = {} if asked.skip_stage2 else _models(asked, values)
    return asked, tables, Settings(out, tuple(overrides), sys.executable, stage2)


def _models(asked: argparse.Namespace, values: Mapping[str, Any]) -> dict[str, Model]:
    """The model of each schedule; what stage 2 would miss is said before stage 1."""
    config = resolve(f"{PLAIN}@{asked.base}", values)
    instead = "With --skip_stage2 the labels alone are made and measured."
    usual = asked.stage2_config or config.stage2.config
    if not usual:
        raise UsageError(
            f"--stage2_config=NAME is missing: the model of stage 2. {instead}"
        )
    if not Path(config.stage2.python).is_file():
        raise UsageError(
            f"There is no {config.stage2.python} to run stage 2: `make stage2-env` "
            f"or --stage2_python=FILE. {instead}"
        )
    if not _has_val(config.data):
        raise UsageError(
            "--val=FILE is missing: the true masks that stage 2 is evaluated on. "
            f"{instead}"
        )
    models = {}
    for schedule, path in (("3x", usual), ("1x", asked.stage2_config_1x or usual)):
        try:
            path = str(mmdet_config(path))
        except ConfigError as error:
            raise UsageError(str(error)) from error
        config.stage2.config = path
        name = folder_name(config.stage2)
        models[schedule] = Model(path, name, digest_of(config, ["stage2"]))
    return models


def _has_val(data: mlc.ConfigDict) -> bool:
    """Whether `prepare` will find a validation split."""
    if data.scenes.num_train:
        return data.scenes.num_val > 0
    return bool(data.val or (data.voc.devkit and not data.train))


def _run(
    tables: dict[str, list[Row]],
    settings: Settings,
    *,
    base: str,
    command: str,
    run: Run,
) -> int:
    def write(faults: dict[str, str]) -> None:
        for table, rows in tables.items():
            write_table(
                table, rows, settings, base=base, command=command, faults=faults
            )

    start = time.monotonic()
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        faults = run_rows(tables, settings, run=run, after_row=write)
    finally:
        signal.signal(signal.SIGTERM, before)
    for table in tables:
        print(f"{table}: {settings.out / table}.md")
    print(f"in all: {duration(time.monotonic() - start)}")
    if faults:
        return fail(f"{len(faults)} of the rows failed: {', '.join(faults)}", FAILED)
    return OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="exits-jax ablations",
        description="Runs tables of the paper's ablations end to end. The same command "
        "goes on where it stopped. Flags --config.FIELD=VALUE go to every row.",
        allow_abbrev=False,
    )
    add = partial(parser.add_argument, metavar="NAME")
    add(
        "--table",
        action="append",
        required=True,
        help=f"{', '.join(TABLES)}; again for more than one",
    )
    add("--base", default=DEFAULT_BASE, help="configuration to change, as custom:cpu")
    add("--out", metavar="FOLDER", help="all results; runs/ablations of the base")
    add("--val", metavar="FILE", help="as --config.data.val")
    add("--val_images", metavar="FOLDER", help="as --config.data.val_images")
    add("--stage2_config", metavar="MODEL", help="mmdet config of stage 2")
    add(
        "--stage2_config_1x",
        metavar="FILE",
        help="of tables a3 and a4, which the paper has with the 1x schedule; without "
        "it the same as of the others",
    )
    add("--stage2_python", metavar="FILE", help="Python of the stage-2 environment")
    flag = partial(parser.add_argument, action="store_true")
    flag("--skip_stage2", help="make and measure the labels alone")
    flag("--dry_run", help="print the commands and run nothing")
    return parser


def _lock(out: Path) -> IO[str]:
    """Two drivers in one folder would run the same rows."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        return take_lock(out / ".lock")
    except InUse as error:
        raise UsageError(
            f"Another driver is at work in {out} ({error.owner}). Wait for its end, or "
            "use another --out."
        ) from None
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}.") from error


def _stop(*_) -> None:
    raise Stopped(TRY_AGAIN)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
