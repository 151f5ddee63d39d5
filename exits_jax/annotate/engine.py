"""Masks for clicks, one after another in a thread of their own.

The model is loaded in that thread, too, so that the page opens at once and takes clicks
meanwhile.
"""

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from exits_jax.annotate.parts import grown
from exits_jax.annotate.pixels import Pixels

MAX_WAITING = 64
_MAX_KEPT = 128 * 2**20  # bytes of logits, for other thresholds
_logger = logging.getLogger(__name__)


@runtime_checkable
class Predicts(Protocol):
    """What the engine asks of a `Predictor`."""

    @property
    def model(self) -> Any:
        """Name, method and threshold."""

    def warm_up(self) -> None:
        """Compiles."""

    def predict_many(self, clicks: Any, *, image: np.ndarray) -> list[Any]:
        """A `Prediction` for the clicks of each object."""
        ...


class Request(NamedTuple):
    """A mask that is wanted."""

    place: int | str  # of an image of the folder, or a name of the pixels
    object: str
    clicks: list[tuple[float, float]]
    threshold: float | None = None  # the model's own
    grow: tuple[float, float] | None = None  # a click beside the mask; see `parts`
    pixels: np.ndarray | None = None  # [height, width, 3], if not of the folder
    tell: Callable[[Any], dict[str, Any]] | None = None  # the answer; None: `described`


class Superseded(Exception):
    """A newer request for the same object came."""


class Busy(Exception):
    """Too many requests wait, or there is no model."""


class Engine:
    """One thread that owns the model."""

    def __init__(self, load: Callable[[], Predicts] | None, pixels: Pixels):
        """Starts to load the model.

        Args:
            load: Gives the model; None: there is none.
            pixels: Where images come from.
        """
        self._load, self._pixels = load, pixels
        self._state: dict[str, Any] = {"state": "none" if load is None else "loading"}
        self._waiting: deque[tuple[Request, Future[dict[str, Any]]]] = deque()
        self._wake = threading.Condition()
        self._is_closed = False
        self._kept: OrderedDict[str, tuple[Request, Any]] = OrderedDict()
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        if load is not None:
            self._thread.start()

    @property
    def state(self) -> dict[str, Any]:
        """`state` ("none", "loading", "ready", "error"), and what is known of it."""
        return {**self._state, "waiting": len(self._waiting)}

    def submit(self, request: Request) -> Future[dict[str, Any]]:
        """Asks for a mask; a request of the same object that still waits is dropped.

        Raises:
            Busy: If there is no model, or too many wait.
        """
        if self._state["state"] in ("none", "error"):
            raise Busy("There is no model.")
        with self._wake:
            if len(self._waiting) >= MAX_WAITING:
                raise Busy(f"{MAX_WAITING} masks wait already.")
            for entry in list(self._waiting):
                if entry[0].object == request.object:
                    self._waiting.remove(entry)
                    _refuse(entry[1], Superseded())
            made: Future[dict[str, Any]] = Future()
            self._waiting.append((request, made))
            self._wake.notify()
        return made

    def close(self) -> None:
        """Ends the thread after the mask that it is at work on."""
        with self._wake:
            self._is_closed = True
            self._wake.notify()

    def _run(self) -> None:
        try:
            model = self._loaded()
        except Exception as error:
            _logger.error("The model cannot be used: %s", error)
            self._state = {"state": "error", "error": str(error)}
            self._refuse_all()
            return
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._waiting or self._is_closed)
                if self._is_closed:
                    return
                request, made = self._waiting.popleft()
            if not made.set_running_or_notify_cancel():
                continue  # who asked is gone
            try:
                made.set_result(self._answer(model, request))
            except Exception as error:
                made.set_exception(error)

    def _loaded(self) -> Predicts:
        assert self._load is not None
        model = self._load()
        model.warm_up()
        started = time.perf_counter()
        model.warm_up()
        facts = model.model
        self._state = {
            "state": "ready",
            "name": facts.name,
            "method": facts.method,
            "threshold": facts.threshold,
            "seconds": round(time.perf_counter() - started, 3),
        }
        return model

    def _refuse_all(self) -> None:
        with self._wake:
            while self._waiting:
                _refuse(self._waiting.popleft()[1], Busy("There is no model."))

    def _answer(self, model: Predicts, request: Request) -> dict[str, Any]:
        started = time.perf_counter()
        found = self._found(model, request)
        if request.threshold is not None:
            found = found.at(request.threshold)
        answer = (request.tell or described)(found)
        if request.grow is not None:
            answer = {"rle": grown(found, request.grow)}
        if request.tell is not None:
            return answer
        return {**answer, "ms": round(1000 * (time.perf_counter() - started), 1)}

    def _found(self, model: Predicts, request: Request) -> Any:
        """The logits of these clicks, from before where they are known."""
        kept = self._kept.get(request.object)
        if kept is not None and kept[0][:3] == request[:3]:
            return kept[1]
        image = request.pixels
        if image is None:
            assert isinstance(request.place, int)
            image = self._pixels.array(request.place)
        (found,) = model.predict_many([request.clicks], image=image)
        self._kept.pop(request.object, None)
        self._kept[request.object] = request._replace(pixels=None, tell=None), found
        sizes = [each.logits.nbytes for _, each in self._kept.values()]
        while sum(sizes) > _MAX_KEPT and len(sizes) > 1:
            self._kept.popitem(last=False)
            del sizes[0]
        return found


def _refuse(made: "Future[dict[str, Any]]", error: Exception) -> None:
    if made.set_running_or_notify_cancel():
        made.set_exception(error)


def described(found: Any) -> dict[str, Any]:
    """A `Prediction` as the page gets it."""
    answer: dict[str, Any] = {"rle": None, "threshold": found.threshold}
    if found.is_empty:
        return answer
    answer["rle"] = found.rle()
    answer["quality"] = {
        "score": found.score,
        "click_hit": found.click_hit,
        "box_iou": found.box_iou,
        "num_parts": found.num_parts,
        "flags": list(found.flags),
    }
    return answer
