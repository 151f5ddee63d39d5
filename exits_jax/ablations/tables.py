"""A table of the paper with our figures beside it, as Markdown and as JSON."""

import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from exits_jax.ablations.rows import Row
from exits_jax.ablations.steps import Settings, is_done, steps_of, workdir_of
from exits_jax.configs.ablations import ABLATIONS, TABLES
from exits_jax.files.atomic import whole_file
from exits_jax.files.json_files import write_json

FIGURES = ("AP", "AP50", "AP75")
LABELS = ("miou", "miou_separated")
DONE, FAILED, NOT_RUN = "done", "failed", "not run"
# Our figure that a comparison of orders goes by, and what it is called.
ORDERED_BY = {"AP": "AP", "miou": "labels' mIoU"}


def write_table(
    table: str,
    rows: Sequence[Row],
    settings: Settings,
    *,
    base: str,
    command: str,
    faults: Mapping[str, str],
) -> None:
    """Writes OUT/TABLE.md and OUT/TABLE.json of what there is now.

    Args:
        table: Its name.
        rows: Its rows.
        settings: Where their results are.
        base: The configuration that the rows change.
        command: The command line that makes the table.
        faults: Rows that failed, and why.
    """
    found = collect(table, rows, settings, faults)
    found |= {"base": base, "command": command}
    write_json(settings.out / f"{table}.json", found)
    with whole_file(settings.out / f"{table}.md") as file:
        file.write(as_markdown(found))


def collect(
    table: str, rows: Sequence[Row], settings: Settings, faults: Mapping[str, str]
) -> dict[str, Any]:
    """The figures of the paper and ours, in percent; None where there is none."""
    content = TABLES[table]
    model = settings.stage2.get(content.schedule)
    entries = [_entry(table, row, settings, faults) for row in rows]
    return {
        "table": table,
        "title": content.title,
        "schedule": content.schedule,
        "stage2": model.config if model else None,
        "rows": entries,
        "order": {by: order(entries, by=by) for by in ORDERED_BY},
    }


def order(entries: Sequence[Mapping[str, Any]], *, by: str) -> dict[str, Any] | None:
    """Whether our rows come in the order of the paper's AP.

    Args:
        entries: Rows that `collect` made.
        by: One of our figures.

    Returns:
        The rows that have both, best first, as the paper and as our figure has them,
        and in how many of the pairs that differ in the paper the same row is ahead.
        None with fewer than two such rows.
    """
    both = {
        entry["row"]: (entry["paper"]["AP"], entry["ours"][by])
        for entry in entries
        if entry["paper"]["AP"] is not None and entry["ours"][by] is not None
    }
    if len(both) < 2:
        return None
    pairs = [
        pair for pair in combinations(both.values(), 2) if pair[0][0] != pair[1][0]
    ]
    agreeing = sum((a[0] - b[0]) * (a[1] - b[1]) > 0 for a, b in pairs)
    return {
        "paper": _best_first({row: values[0] for row, values in both.items()}),
        "ours": _best_first({row: values[1] for row, values in both.items()}),
        "pairs": len(pairs),
        "agreeing": agreeing,
    }


def as_markdown(found: Mapping[str, Any]) -> str:
    """The table of `collect` with `base` and `command`, for people."""
    name = found["table"].replace("_", " ").capitalize()
    stage2 = f"`{found['stage2']}`" if found["stage2"] else "not run"
    head = [f"paper {FIGURES[0]}", *FIGURES[1:], f"our {FIGURES[0]}", *FIGURES[1:]]
    split = next(
        (e["ours"]["split"] for e in found["rows"] if e["ours"]["split"]), None
    )
    where = f" ({split})" if split else ""
    head = [found["title"].lower(), *head, f"labels' mIoU{where}", "separated"]
    lines = [
        f"# {name}: {found['title']}",
        "",
        f"Paper: VOC 2012, SOLOv2 R-50, {found['schedule']} schedule. "
        f"Ours: base `{found['base']}`, stage 2 {stage2}. In percent.",
        "",
        _line(head),
        _line(["---", *["---:"] * (len(head) - 1)]),
        *(_line(_cells(entry)) for entry in found["rows"]),
        "",
        *_orders(found),
        *_remarks(found["rows"]),
        "Made by:",
        "",
        f"    {found['command']}",
    ]
    return "\n".join(lines) + "\n"


def _entry(
    table: str, row: Row, settings: Settings, faults: Mapping[str, str]
) -> dict[str, Any]:
    content = ABLATIONS[row.name]
    steps = {step.key: step for step in steps_of(row, table, settings)}
    done = {key: is_done(step) for key, step in steps.items()}
    ours: dict[str, Any] = dict.fromkeys((*FIGURES, *LABELS, "split"))
    if done["labels"]:
        ours |= _of_labels(row, settings)
    stage2 = next((key for key in done if key.startswith("stage2/")), None)
    if stage2 is not None and done[stage2]:
        figures = json.loads(steps[stage2].makes.read_text())
        ours |= {name: figures[name] for name in FIGURES}
    state = lambda is_there: (
        DONE if is_there else FAILED if row.name in faults else NOT_RUN
    )
    states = {"labels": state(done["labels"])}
    states["stage2"] = NOT_RUN if stage2 is None else state(done[stage2])
    return {
        "row": row.name,
        "label": content.label,
        "changes": dict(content.changes),
        "paper": dict(zip(FIGURES, content.paper, strict=True)),
        "ours": ours,
        "states": states,
        "fault": faults.get(row.name),
        "same_run_as": None if row.owner == row.name else row.owner,
        "workdir": str(workdir_of(row, settings)),
    }


def _of_labels(row: Row, settings: Settings) -> dict[str, Any]:
    path = workdir_of(row, settings) / "evaluation.json"
    found = json.loads(path.read_text())
    ours: dict[str, Any] = {"split": found["split"]}
    for name, group in zip(LABELS, ("all", "separated")):
        mean = (found.get(group) or {}).get("object_miou")
        ours[name] = None if mean is None else 100 * mean
    return ours


def _cells(entry: Mapping[str, Any]) -> list[str]:
    paper, ours, states = entry["paper"], entry["ours"], entry["states"]
    return [
        entry["label"],
        *(_number(paper[name]) for name in FIGURES),
        *(_cell(ours[name], states["stage2"]) for name in FIGURES),
        *(_cell(ours[name], states["labels"]) for name in LABELS),
    ]


def _cell(value: float | None, state: str) -> str:
    return _number(value) if state == DONE else state


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _orders(found: Mapping[str, Any]) -> list[str]:
    """A sentence for each comparison of orders."""
    label = {entry["row"]: entry["label"] for entry in found["rows"]}
    ranked = lambda groups: " > ".join(
        " = ".join(label[row] for row in group) for group in groups
    )
    said = []
    for by, compared in found["order"].items():
        if compared is None:
            said.append(f"Order by our {ORDERED_BY[by]}: nothing to compare.")
            continue
        said.append(
            f"Order by the paper's AP: {ranked(compared['paper'])}; by our "
            f"{ORDERED_BY[by]}: {ranked(compared['ours'])}. "
            f"{compared['agreeing']} of {compared['pairs']} pairs agree."
        )
    return [line for sentence in said for line in (sentence, "")]


def _remarks(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    said = [
        f'"{entry["label"]}" is the same run as {entry["same_run_as"]}.'
        for entry in entries
        if entry["same_run_as"]
    ]
    said += [
        f'"{entry["label"]}" failed: {entry["fault"]}'
        for entry in entries
        if entry["fault"]
    ]
    return [line for sentence in said for line in (sentence, "")]


def _best_first(values: Mapping[str, float]) -> list[list[str]]:
    """Rows by value, the highest first; those with the same value together."""
    return [
        [row for row in values if values[row] == value]
        for value in sorted(set(values.values()), reverse=True)
    ]
