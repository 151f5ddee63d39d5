"""Metrics on the way out: TensorBoard, `metrics.jsonl` and the screen."""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING

import jax

from exits_jax.files.atomic import whole_file
from exits_jax.train.progress import Progress

if TYPE_CHECKING:
    from tensorboardX.event_file_writer import EventsWriter

# Once this many steps are begun, the first is done and nothing compiles any more.
WARM_UP_STEPS = 3

_logger = logging.getLogger(__name__)


class MetricLog:
    """Writes the metrics of one run. Only the first process of a pod writes.

    A file that cannot be written, as on a full disk, is said once and never ends the
    run. TensorBoard's events are written as they come: tensorboardX's own thread would
    die of a full disk unnoticed, and block the run once its queue is full.
    """

    def __init__(self, workdir: str | Path, run: str, *, first_step: int, total: int):
        self._run = run
        self._folder = Path(workdir)
        self._active = jax.process_index() == 0
        self._progress = Progress(
            run, total=total, unit="step", initial=first_step, warm_up=WARM_UP_STEPS
        )
        self._file: IO[str] | None = None
        self._board: EventsWriter | None = None
        self._board_tried = False
        self._warned: set[str] = set()
        if self._active:
            path = self._folder / "metrics.jsonl"
            self._guard("metrics.jsonl", lambda: _forget(path, run, first_step))
            self._guard("metrics.jsonl", lambda: self._open_file(path))

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Records the means since the last call; `step` steps are done."""
        if not self._active:
            return
        if "loss/total" in metrics:
            self._progress.note(f"loss {metrics['loss/total']:.4f}")
        self._guard("metrics.jsonl", lambda: self._write_file(step, metrics))
        self._guard("TensorBoard", lambda: self._write_board(step, metrics))

    def doing(self, what: str) -> None:
        """Says what happens before the next step."""
        self._progress.doing(what)

    def advance(self) -> None:
        """One more step is under way, and all but the last two are done."""
        self._progress.advance()

    def close(self) -> None:
        """Ends the bar and the files."""
        self._progress.close()
        if self._file is not None:
            self._guard("metrics.jsonl", self._file.close)
        if self._board is not None:
            self._guard("TensorBoard", self._board.close)

    def _guard(self, what: str, action: Callable[[], object]) -> None:
        try:
            action()
        except OSError as error:
            if what not in self._warned:
                self._warned.add(what)
                _logger.warning(
                    "Metrics of %s cannot be written to %s (%s). The run goes on.",
                    self._run,
                    what,
                    error.strerror or error,
                )

    def _open_file(self, path: Path) -> None:
        self._file = path.open("a")

    def _write_file(self, step: int, metrics: dict[str, float]) -> None:
        if self._file is None:
            return
        row = {"run": self._run, "step": step, **metrics}
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def _write_board(self, step: int, metrics: dict[str, float]) -> None:
        # Only now: tensorboardX loads PyTorch, where that is installed.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2
        from tensorboardX.summary import scalar

        if not self._board_tried:
            self._board_tried = True
            folder = self._folder / "tensorboard" / self._run
            folder.mkdir(parents=True, exist_ok=True)
            self._board = EventsWriter(str(folder / "events"))
        if self._board is None:
            return
        for name, value in metrics.items():
            event = event_pb2.Event(  # pyright: ignore[reportAttributeAccessIssue]
                wall_time=time.time(), step=step, summary=scalar(name, value)
            )
            self._board.write_event(event)
        self._board.flush()


def _forget(path: Path, run: str, first_step: int) -> None:
    """Drops what an interrupted run logged beyond the step it is resumed from."""
    if not path.exists():
        return
    lines = path.read_text(errors="replace").splitlines()
    rows = [row for line in lines if (row := _parse(line))]
    keep = [row for row in rows if row["run"] != run or row["step"] <= first_step]
    with whole_file(path) as file:
        file.writelines(json.dumps(row) + "\n" for row in keep)


def _parse(line: str) -> dict | None:
    """A row; None for a line that a crash cut short or that is damaged."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_row = isinstance(row, dict) and isinstance(row.get("step"), int)
    return row if is_row and isinstance(row.get("run"), str) else None
