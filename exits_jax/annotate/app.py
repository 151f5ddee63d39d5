"""The routes: what the page asks for, and what it says."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from exits_jax.annotate import engine as engines
from exits_jax.annotate.bodies import answer, read_body
from exits_jax.annotate.engine import Busy, Engine, Superseded
from exits_jax.annotate.events import Batch, EventError, Name
from exits_jax.annotate.folder import Picture
from exits_jax.annotate.pixels import Pixels
from exits_jax.annotate.review import worst_first
from exits_jax.annotate.store import Store
from exits_jax.annotate.writers import Writers
from exits_jax.data.images import ImageError, image_remarks

MAX_BODY = 2**20
SNAPSHOT_EVERY_S = 30.0
_STATIC = Path(__file__).with_name("static")
_MAX_LISTED = 5000
_logger = logging.getLogger(__name__)


class PredictBody(msgspec.Struct, forbid_unknown_fields=True):
    """Asks for a mask."""

    place: Annotated[int, Meta(ge=0)]
    object: Annotated[str, Meta(pattern="^[0-9a-z]{1,32}$")]
    clicks: Annotated[list[tuple[float, float]], Meta(min_length=4, max_length=4)]
    threshold: Annotated[float, Meta(gt=0, lt=1)] | None = None
    grow: tuple[float, float] | None = None


class WriterBody(msgspec.Struct, forbid_unknown_fields=True):
    """Asks to be the tab that may write."""

    client: Annotated[str, Meta(pattern="^[0-9a-f]{8,32}$")]
    take: bool = False
    leave: bool = False


class ClassBody(msgspec.Struct, forbid_unknown_fields=True):
    """Asks for a class of a name."""

    client: Annotated[str, Meta(pattern="^[0-9a-f]{8,32}$")]
    name: Name


class Service:
    """What the routes share; `app` is the ASGI application without its guard."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        pixels: Pixels,
        spoken: Sequence[BaseRoute] = (),
        **facts: Any,
    ):
        """Takes what does the work.

        Args:
            store: What is known.
            engine: Makes masks.
            pixels: Images.
            spoken: Routes of other tools.
            facts: Further things that the page is told, such as `mode`.
        """
        self.store, self.engine, self.pixels, self.facts = store, engine, pixels, facts
        self.writers = Writers()
        self._saved_at = time.monotonic()
        self._wants_snapshot = False
        self._snapshot_fault = ""
        get, post = ["GET"], ["POST"]
        self.app = Starlette(
            routes=[
                Route("/", _page, methods=get),
                Mount("/static", StaticFiles(directory=_STATIC)),
                Route("/api/v1/state", self.state, methods=get),
                Route("/api/v1/review", self.review, methods=get),
                Route("/api/v1/images", self.images, methods=get),
                Route("/api/v1/images/{place:int}", self.image, methods=get),
                Route("/api/v1/images/{place:int}/pixels", self.shown, methods=get),
                Route("/api/v1/writer", self.writer, methods=post),
                Route("/api/v1/predict", self.predict, methods=post),
                Route("/api/v1/events", self.events, methods=post),
                Route("/api/v1/classes", self.classes, methods=post),
                *spoken,
            ],
            exception_handlers={
                HTTPException: _refused,
                ClientDisconnect: _gone,
                Exception: _failed,
            },
            lifespan=self._life,
        )

    async def state(self, request: Request) -> Response:
        """What there is, how far it is, and whether this tab may write."""
        client = request.query_params.get("client", "")
        return answer(
            {
                "model": self.engine.state,
                "categories": self.store.categories,
                "images": len(self.store.pictures),
                "upto": self.store.upto,
                "journal": self.store.journal.identity,
                "writes": self.writers.writes(client),
                "snapshot_fault": self._snapshot_fault,
                "remarks": self.store.remarks,
                **self.facts,
            }
        )

    async def review(self, request: Request) -> Response:
        """All objects of the source, the doubtful ones first."""
        things = [each for each in self.store.things.values() if each.base]
        places = self.store.place_of
        return answer(
            [
                [places[each.image], each.key, each.by, each.status]
                for each in worst_first(things)
                if each.image in places
            ]
        )

    async def images(self, request: Request) -> Response:
        """Names and counts of some images."""
        start, count = _number(request, "from", 0), _number(request, "count", 500)
        done: dict[Any, int] = {}
        for thing in list(self.store.things.values()):
            if thing.status == "done":
                done[thing.image] = done.get(thing.image, 0) + 1
        pictures = self.store.pictures[start : start + min(count, _MAX_LISTED)]
        return answer(
            [
                {"name": each.name, "done": done.get(each.id, 0), "fault": each.fault}
                for each in pictures
            ]
        )

    async def image(self, request: Request) -> Response:
        """One image and its objects."""
        place, picture = self._picture(request)
        self._wants_snapshot = True
        things = [
            {**msgspec.to_builtins(each), "base": None}
            for each in self.store.of_image(picture.id)
        ]
        remarks: list[str] = []
        if not picture.fault:
            with contextlib.suppress(ImageError, OSError):
                remarks = list(image_remarks(self.pixels.path(place)))
        height, width = picture.size
        return answer(
            {
                "place": place,
                "id": picture.id,
                "name": picture.name,
                "width": width,
                "height": height,
                "fault": picture.fault,
                "remarks": remarks,
                "objects": things,
            }
        )

    async def shown(self, request: Request) -> Response:
        """The pixels of an image."""
        place, picture = self._picture(request)
        if picture.fault:
            raise HTTPException(404, picture.fault)
        try:
            tag = self.pixels.tag(place)
            headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
            if self.engine.state["state"] in ("loading", "ready"):
                self.pixels.read_ahead(place)
            if request.headers.get("if-none-match") == tag:
                return Response(status_code=304, headers=headers)
            made = await asyncio.to_thread(self.pixels.payload, place)
        except (ImageError, OSError) as error:
            raise HTTPException(404, f"{picture.name}: {_said(error)}") from None
        return Response(made.data, media_type=made.kind, headers=headers)

    async def writer(self, request: Request) -> Response:
        """Whether a tab may write; takes the right from another if asked to."""
        body = await read_body(request, WriterBody, most=MAX_BODY)
        if body.leave:
            self.writers.leave(body.client)
            return answer({"writes": False})
        return answer({"writes": self.writers.ask(body.client, take=body.take)})

    async def predict(self, request: Request) -> Response:
        """The mask for four clicks."""
        body = await read_body(request, PredictBody, most=MAX_BODY)
        if body.place >= len(self.store.pictures):
            raise HTTPException(404, "There is no such image.")
        if fault := self.store.pictures[body.place].fault:
            raise HTTPException(404, fault)
        wanted = engines.Request(
            body.place, body.object, body.clicks, body.threshold, body.grow
        )
        try:
            made: Future[dict[str, Any]] = self.engine.submit(wanted)
            return answer(await asyncio.wrap_future(made))
        except Superseded:
            raise HTTPException(409, "A newer request came.") from None
        except Busy as error:
            raise HTTPException(503, str(error)) from None
        except (ValueError, OSError) as error:  # clicks, or an image, of no use
            return answer({"error": _said(error), "code": _code(error)}, 422)

    async def events(self, request: Request) -> Response:
        """Takes events; the answer comes when they are on the disk."""
        batch = await read_body(request, Batch, most=MAX_BODY)
        upto = await self._kept(batch.client, self.store.add, batch.events)
        return answer({"upto": upto})

    async def classes(self, request: Request) -> Response:
        """Takes the name of a class; gives its entry."""
        body = await read_body(request, ClassBody, most=MAX_BODY)
        name = body.name.strip()
        if not name:
            raise HTTPException(400, "The name is empty.")
        return answer(await self._kept(body.client, self.store.add_class, name))

    async def _kept(self, client: str, keep: Callable[[Any], Any], given: Any) -> Any:
        """What the store answers to the tab that may write."""
        if not self.writers.ask(client):
            raise HTTPException(409, "Another tab writes.")
        try:
            return await asyncio.to_thread(keep, given)
        except EventError as error:
            raise HTTPException(400, str(error)) from None
        except OSError as error:
            file = self.store.journal.path.name
            said = f"Not saved: {error.strerror or error} ({file})."
            raise HTTPException(507, said) from None

    def _picture(self, request: Request) -> tuple[int, Picture]:
        place = request.path_params["place"]
        if not 0 <= place < len(self.store.pictures):
            raise HTTPException(404, "There is no such image.")
        return place, self.store.pictures[place]

    @contextlib.asynccontextmanager
    async def _life(self, app: Starlette) -> AsyncIterator[None]:
        saving = asyncio.create_task(self._save_now_and_then())
        yield
        saving.cancel()

    async def _save_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            since = time.monotonic() - self._saved_at
            if since < SNAPSHOT_EVERY_S and not (self._wants_snapshot and since > 3):
                continue
            self._saved_at, self._wants_snapshot = time.monotonic(), False
            try:
                await asyncio.to_thread(self.store.snapshot)
                self._snapshot_fault = ""
            except OSError as error:
                name = self.store.task.out.name
                self._snapshot_fault = f"{name}: {error.strerror or error}"
            except Exception as error:  # the next turn may go better
                name, kind = self.store.task.out.name, type(error).__name__
                _logger.exception("%s was not written", name)
                self._snapshot_fault = f"{name} was not written: {kind}: {error}"


async def _page(request: Request) -> Response:
    return FileResponse(_STATIC / "index.html", media_type="text/html")


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise HTTPException(400, f"{name} should be a whole number.")
    return int(text)


def _said(error: Exception) -> str:
    text = getattr(error, "strerror", None)
    return str(text or error)


def _code(error: Exception) -> str:
    return str(getattr(error, "code", ""))


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)


async def _failed(request: Request, error: Exception) -> Response:
    _logger.error("%s failed: %s: %s", request.url.path, type(error).__name__, error)
    return JSONResponse({"error": "The server failed at this."}, 500)
