"""The table of results: runs of stage 2 beside the paper's Tables 1, 2 and 3.

    python -m exits_jax.stage2.results RUN... --out=FOLDER [--test=FILE]

A RUN is a folder with `figures.json`, or one with such folders below it. Written are
`results.md` and `results.json`.
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from exits_jax.exit_status import BAD_INPUT
from exits_jax.files.atomic import whole_file
from exits_jax.files.json_files import write_json
from exits_jax.files.words import fail
from exits_jax.stage2.errors import Stage2Error
from exits_jax.stage2.inputs.json_file import read_json
from exits_jax.stage2.measures.paper_rows import EXITS, MAL, MASKS, TABLES, PaperTable
from exits_jax.stage2.measures.results_markdown import FIGURES, RECALLS, as_markdown

_SUPERVISIONS = ("pseudo", "masks", "boxes")
_BY = {
    EXITS: "E",  # extreme points
    MAL: "B",  # boxes
    MASKS: "M",
}

TestFigures = Mapping[str, Mapping[str, float]]


class Run(NamedTuple):
    """One `figures.json`."""

    folder: Path
    figures: dict[str, Any]

    @property
    def by(self) -> str:
        """What it was trained on, as in `paper_rows`: "exits", "masks", "boxes", ..."""
        if self.figures["supervision"] == "pseudo":
            return self.figures.get("method") or EXITS
        return self.figures["supervision"]

    @property
    def training(self) -> tuple[Any, ...]:
        """What two runs have in common whose APs may be compared."""
        fields = ("config", "dataset", "iterations", "metric")
        same_file = Path(self.figures["val"]).name
        settings = (self.figures.get("init"), tuple(self.figures.get("options") or ()))
        named = (self.figures[f] for f in fields)
        return *named, same_file, self.is_single_class, *settings

    @property
    def is_single_class(self) -> bool:
        """Whether all classes were made one, which is no figure of the paper."""
        return bool(self.figures.get("single_class"))


def retention(ap: float | None, full_ap: float | None) -> float | None:
    """AP in percent of the AP that full supervision reaches (Section 4.1).

    Args:
        ap: AP of a weakly supervised run.
        full_ap: AP of the run with true masks and otherwise the same.

    Returns:
        The rate in percent; None where one of them is unknown or `full_ap` is 0.
    """
    if ap is None or not full_ap:
        return None
    return 100 * ap / full_ap


def write_results(
    runs: Sequence[Path], out: Path, test: Path | None = None
) -> dict[str, Any]:
    """Writes `results.md` and `results.json`.

    Args:
        runs: Folders with `figures.json`, in them or below. Of several that fit one
            cell of a table the first is taken; the others are among the other runs.
        out: Folder of both files.
        test: JSON of the AP on test-dev that the evaluation server said, percent:
            {CONFIG: {"exits" | "mil_crf" | "masks": AP}}.

    Returns:
        What `results.json` holds.

    Raises:
        Stage2Error: If there are no figures, or a file is broken.
    """
    found = read_runs(runs)
    served = _read_test(test) if test else {}
    taken: set[Path] = set()
    tables = [_table(table, found, served, taken) for table in TABLES]
    others = [_other(run, found) for run in found if run.folder not in taken]
    results = {"tables": tables, "other_runs": others}
    write_json(out / "results.json", results)
    with whole_file(out / "results.md") as file:
        file.write(as_markdown(results))
    return results


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs in the folders and below, each once, in order."""
    paths: dict[Path, Path] = {}  # by what they are, as they were named
    for folder in folders:
        here = folder / "figures.json"
        below = [here] if here.is_file() else sorted(folder.rglob("figures.json"))
        if not below:
            raise Stage2Error(f"{folder} has no figures.json, in it or below.")
        for path in below:
            paths.setdefault(path.resolve(), path)
    return [Run(path.parent, _read_figures(path)) for path in paths.values()]


def _table(
    table: PaperTable, runs: Sequence[Run], served: TestFigures, taken: set[Path]
) -> dict[str, Any]:
    rows = []
    for row in table.rows:
        run = _first(runs, row.config, table.dataset, row.by)
        full = run and partner(run, runs)
        ours: dict[str, float | None] = dict.fromkeys(table.columns)
        if run:
            taken.add(run.folder)
            ours |= {name: run.figures.get(name) for name in FIGURES if name in ours}
            rate = full and retention(ours["AP"], full.figures["AP"])
            ours |= {"Ret": rate} if "Ret" in ours else {}
        if table.number == 1:  # test-dev is of COCO
            by_method = served.get(row.config or "", {})
            ours["AP test"] = by_method.get(row.by)
            if row.by != MASKS:
                ours["Ret test"] = retention(ours["AP test"], by_method.get(MASKS))
        rows.append(
            {
                "method": row.method,
                "supervision": _BY[row.by],
                "backbone": row.backbone,
                "model": row.model,
                "config": row.config,
                "paper": dict(zip(table.columns, row.figures)),
                "ours": ours,
                "run": run and str(run.folder),
                "full_run": full and str(full.folder),
                "iterations": run and run.figures["iterations"],
            }
        )
    return {"number": table.number, "caption": table.caption, "rows": rows}


def _first(
    runs: Sequence[Run], config: str | None, dataset: str, by: str
) -> Run | None:
    for run in runs:
        found = (run.figures["config"], run.figures["dataset"], run.by)
        if found == (config, dataset, by) and not run.is_single_class:
            return run
    return None


def partner(run: Run, runs: Sequence[Run]) -> Run | None:
    """The first run on true masks that is otherwise the same; None for such a run."""
    if run.by == MASKS:
        return None
    same = (each for each in runs if each.by == MASKS)
    return next((each for each in same if each.training == run.training), None)


def _other(run: Run, runs: Sequence[Run]) -> dict[str, Any]:
    full = partner(run, runs)
    known = {name: run.figures.get(name) for name in (*FIGURES, *RECALLS)}
    return {
        "run": str(run.folder),
        "config": run.figures["config"],
        "dataset": run.figures["dataset"],
        "supervision": run.by if run.by == MAL else run.figures["supervision"],
        "iterations": run.figures["iterations"],
        "single_class": run.is_single_class,
        **known,
        "retention": full and retention(run.figures["AP"], full.figures["AP"]),
        "full_run": full and str(full.folder),
    }


def _read_figures(path: Path) -> dict[str, Any]:
    figures = _read_object(path)
    expected: dict[str, Any] = {
        "config": str,
        "supervision": str,
        "dataset": str,
        "val": str,
        "iterations": int,
    }
    wrong = [n for n, kind in expected.items() if not isinstance(figures.get(n), kind)]
    if "AP" not in figures:
        wrong.append("AP")
    wrong += [n for n in (*FIGURES, *RECALLS) if not _is_percent(figures.get(n))]
    if wrong:
        raise Stage2Error(
            f"{path} has no usable {', '.join(wrong)}: it is not what stage 2 writes."
        )
    if figures["supervision"] not in _SUPERVISIONS:
        raise Stage2Error(
            f"{path}: supervision is {figures['supervision']!r}; expected one of "
            f"{', '.join(_SUPERVISIONS)}."
        )
    return {"metric": "coco"} | figures


def _read_test(path: Path) -> TestFigures:
    served = _read_object(path)
    for config, aps in served.items():
        known = isinstance(aps, dict) and aps.keys() <= _BY.keys()
        if not known or not all(v is not None and _is_percent(v) for v in aps.values()):
            raise Stage2Error(
                f"{path}: {config!r} is {aps!r}; expected percents by "
                f"{', '.join(_BY)}, like {{{EXITS!r}: 36.9, {MASKS!r}: 38.4}}."
            )
    return served


def _read_object(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise Stage2Error(f"{path}: expected a JSON object.")
    return content


def _is_percent(value: Any) -> bool:
    if value is None:
        return True
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return plain and math.isfinite(value) and 0 <= value <= 100


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="exits-jax results")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--test", type=Path, help="JSON of the AP on test-dev")
    args = parser.parse_args(arguments)
    try:
        results = write_results(args.runs, args.out, args.test)
    except Stage2Error as error:
        return fail(error, BAD_INPUT)
    print(as_markdown(results), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
