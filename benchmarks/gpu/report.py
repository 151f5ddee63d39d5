"""Results of `benchmarks.gpu` as Markdown."""

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]
_ATTENTION = {
    "forward_ms": ("forward, ms", "{:.3g}"),
    "with_gradient_ms": ("and gradient, ms", "{:.3g}"),
    "relative_error": ("error", "{:.1e}"),
    "gradient_error": ("error of the gradient", "{:.1e}"),
    "repeats": ("repeats bit for bit", "{}"),
    "peak_bytes": ("temporary, MiB", "mib"),
    "compile_s": ("compiling, s", "{:.1f}"),
}
_STEP = {
    "rows": ("images", "{}"),
    "step_ms": ("ms, median", "{:.4g}"),
    "least_ms": ("least", "{:.4g}"),
    "most_ms": ("most", "{:.4g}"),
    "images_per_s": ("images/s", "{:.4g}"),
    "model_tflops": ("TFLOP/s", "{:.3g}"),
    "peak_bytes": ("peak, MiB", "mib"),
    "compile_s": ("first step, s", "{:.1f}"),
    "repeats": ("repeats bit for bit", "{}"),
}


def table(results: Sequence[Row]) -> str:
    """Both tables, attention and steps, below a line about the device."""
    device, *rows = results
    head = ", ".join(f"{device[key]}" for key in ("kind", "jax", "runtime"))
    attention = [row for row in rows if row["case"].startswith("attention")]
    steps = [row for row in rows if row["case"].startswith("step")]
    parts = [head, _table(attention, _ATTENTION), _table(steps, _STEP)]
    return "\n\n".join(parts + _ratios(steps))


def _table(rows: Sequence[Row], columns: dict[str, tuple[str, str]]) -> str:
    titles = ["what", *(title for title, _ in columns.values())]
    lines = [f"| {' | '.join(titles)} |", "| --- " * len(titles) + "|"]
    for row in rows:
        name = ", ".join(row[key] for key in ("case", "way") if key in row)
        why = row.get("not run") or row.get("error")
        cells = [f"not run: {why}"] if why else []
        cells += [_cell(row.get(key), form) for key, (_, form) in columns.items()]
        lines.append(f"| {' | '.join([name, *cells[: len(columns)]])} |")
    return "\n".join(lines)


def _cell(value: Any, form: str) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value / 2**20:,.0f}" if form == "mib" else form.format(value)


def _ratios(steps: Sequence[Row]) -> list[str]:
    """Our step over each of the others, where both were timed."""
    times = {row["case"]: row["step_ms"] for row in steps if "step_ms" in row}
    ours = times.pop("step", None)
    if ours is None:
        return []
    return [
        "\n".join(
            f"our step over {name.removeprefix('step, ')}: {ours / other:.2f}"
            for name, other in times.items()
        )
    ]
