"""The results of stage 2 as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

NOT_RUN = "not run"
FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl")
RECALLS = ("recall_separated", "recall_occluded")

_EXPLANATION = f"""\
In percent. A cell of the paper's tables is *paper / ours*: '{NOT_RUN}' says that ours
was not run, '-' that there is no figure. Sup: trained on masks (M), boxes (B) or
extreme points (E). In MAL's rows, ours is the MIL + CRF baseline (`loss.method` =
`mil_crf`). Ret is the AP in percent of the AP on true masks with the same config, data
and iterations; while there is no such run, it was not run either."""


def as_markdown(results: Mapping[str, Any]) -> str:
    """The results as Markdown tables, aligned also where nothing renders them."""
    parts = ["# Results of stage 2", _EXPLANATION]
    for table in results["tables"]:
        parts.append(f"## Table {table['number']}: {table['caption']}")
        columns = list(table["rows"][0]["paper"])
        head = ["Method", "Sup", "Backbone", "Model", *columns, "our iterations"]
        rows = [
            [
                *(row[n] for n in ("method", "supervision", "backbone", "model")),
                *(_pair(row, name) for name in columns),
                "-" if row["iterations"] is None else str(row["iterations"]),
            ]
            for row in table["rows"]
        ]
        parts.append(_aligned(head, rows, 4))
    parts.append("## Other runs")
    parts.append(_other_runs(results["other_runs"]) or "None.")
    return "\n\n".join(parts) + "\n"


def _pair(row: Mapping[str, Any], name: str) -> str:
    paper, ours = row["paper"][name], row["ours"][name]
    is_rate = name.startswith("Ret")
    if is_rate and row["supervision"] == "M":
        return "-"
    is_known = ours is not None or (row["run"] and name in FIGURES)
    return f"{_number(paper)} / {_number(ours) if is_known else NOT_RUN}"


def _other_runs(runs: Sequence[Mapping[str, Any]]) -> str:
    if not runs:
        return ""
    head = ["Config", "Data", "Supervision", "Iterations", *FIGURES]
    head += ["Recall sep.", "Recall occ.", "Retention", "Run"]
    rows = [
        [
            run["config"],
            run["dataset"] + (", one class" if run["single_class"] else ""),
            run["supervision"],
            str(run["iterations"]),
            *(_number(run[name]) for name in (*FIGURES, *RECALLS, "retention")),
            run["run"],
        ]
        for run in runs
    ]
    return _aligned(head, rows, 3)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _aligned(head: list[str], rows: list[list[str]], num_texts: int) -> str:
    """A Markdown table; columns after the first `num_texts` are set to the right."""
    rows = [[cell.replace("|", "\\|") for cell in row] for row in [head, *rows]]
    widths = [max(len(cell) for cell in column) for column in zip(*rows)]
    rule = [
        "-" * w if k < num_texts else "-" * (w - 1) + ":" for k, w in enumerate(widths)
    ]
    lines = [
        [
            cell.ljust(width) if k < num_texts else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths))
        ]
        for row in [rows[0], rule, *rows[1:]]
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
