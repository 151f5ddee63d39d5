"""Metrics on the way out: TensorBoard, `metrics.jsonl` and a progress bar."""

import json
import os
from pathlib import Path

import jax
from tensorboardX import SummaryWriter

from exits_jax.train.progress import progress_bar


class MetricLog:
    """Writes the metrics of one run. Only the first process of a pod writes."""

    def __init__(self, workdir: str | Path, run: str, *, first_step: int, total: int):
        self._run = run
        self._active = jax.process_index() == 0
        self._bar = progress_bar(run, total=total, unit="step", initial=first_step)
        if self._active:
            path = Path(workdir) / "metrics.jsonl"
            _forget(path, run, first_step)
            self._file = path.open("a")
            self._board = SummaryWriter(str(Path(workdir) / "tensorboard" / run))

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Records the means since the last call; `step` steps are done."""
        if not self._active:
            return
        row = {"run": self._run, "step": step, **metrics}
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        for name, value in metrics.items():
            self._board.add_scalar(name, value, step)
        self._bar.set_postfix_str(f"loss {metrics['loss/total']:.4f}", refresh=False)

    def advance(self) -> None:
        """One more step is under way."""
        self._bar.update()

    def close(self) -> None:
        """Ends the bar and the files."""
        self._bar.close()
        if self._active:
            self._file.close()
            self._board.close()


def _forget(path: Path, run: str, first_step: int) -> None:
    """Drops what an interrupted run logged beyond the step it is resumed from."""
    if not path.exists():
        return
    rows = [row for line in path.read_text().splitlines() if (row := _parse(line))]
    keep = [row for row in rows if row["run"] != run or row["step"] <= first_step]
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(row) + "\n" for row in keep))
    os.replace(temporary, path)


def _parse(line: str) -> dict | None:
    """A row; None for a line that a crash cut short."""
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None
