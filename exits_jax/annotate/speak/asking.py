"""How every protocol asks for a mask, and the images that tools send along."""

import asyncio
import base64
import binascii
import contextlib
import hashlib
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest

from exits_jax.annotate.bodies import read_body
from exits_jax.annotate.engine import Busy, Engine, Request, Superseded
from exits_jax.annotate.speak.prompts import Point, four_of, without
from exits_jax.data.images import ImageError, decode_image

MAX_BODY = 48 * 2**20  # images come as text
_MAX_KEPT = 256 * 2**20  # bytes of decoded images
_AT_ONCE = 2  # requests with images that are read and worked on
_READ_S = 60.0  # for such a request to arrive


_Body = TypeVar("_Body")


class Found(NamedTuple):
    """A mask within a box of its image."""

    part: np.ndarray  # bool [h, w]
    left: int  # of the box in the image, px
    top: int
    size: tuple[int, int]  # (height, width) of the image
    score: float  # mean probability of its pixels


Tell = Callable[[Found], dict[str, Any]]


class Asking:
    """Asks the engine on behalf of other tools."""

    def __init__(self, engine: Engine):
        """Takes what makes the masks."""
        self._engine = engine
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """Of the model, as far as it is known."""
        return str(self._engine.state.get("name", "exits_jax")).rpartition("/")[2]

    @contextlib.asynccontextmanager
    async def body(
        self, request: HttpRequest, kind: type[_Body]
    ) -> AsyncIterator[_Body]:
        """The body of a request with an image; few are held at a time.

        Raises:
            HTTPException: As `read_body`, or if it does not arrive in time (408).
        """
        async with self._turn:
            try:
                async with asyncio.timeout(_READ_S):
                    read = await read_body(request, kind, most=MAX_BODY)
            except TimeoutError:
                raise HTTPException(408, "The request did not arrive.") from None
            yield read

    async def mask(
        self,
        place: int | str,
        key: str,
        points: tuple[Sequence[Point], Sequence[Point]],
        tell: Tell,
        *,
        pixels: np.ndarray | None = None,
    ) -> dict[str, Any] | None:
        """What there is to tell of a mask.

        Args:
            place: Of an image of the folder, or a name of the pixels.
            key: A newer request of the same key replaces one that waits.
            points: On the object, four or more, and off it, px.
            tell: Makes the answer, in the thread of the model.
            pixels: The image, where it is none of the folder.

        Returns:
            The answer; None if there are too few points, or a newer request came.

        Raises:
            HTTPException: If there is no model (503), or the clicks give no mask (422).
        """
        on, off = points
        four = four_of(on)
        if four is None:
            return None

        def told(found: Any) -> dict[str, Any]:
            part = without(found.part, found.origin, off)
            if not part.any():
                raise ValueError(f"No pixel exceeds {found.threshold:g} (E301).")
            left, top = found.origin
            return tell(Found(part, left, top, found.item.image_size, found.score))

        try:
            made = self._engine.submit(
                Request(place, key, four, pixels=pixels, tell=told)
            )
            return await asyncio.wrap_future(made)
        except Superseded:
            return None
        except Busy as error:
            raise HTTPException(503, str(error)) from None
        except (ValueError, OSError) as error:
            raise HTTPException(422, str(error)) from None

    async def sent(self, text: str) -> tuple[str, np.ndarray]:
        """An image that came as base 64, and its digest; the latest are kept.

        Raises:
            HTTPException: If it is no whole image (422).
        """
        return await asyncio.to_thread(self._sent, text)

    def _sent(self, text: str) -> tuple[str, np.ndarray]:
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise HTTPException(422, "The image is no base 64.") from None
        digest = hashlib.sha256(data).hexdigest()
        with self._lock:
            if digest in self._kept:
                self._kept.move_to_end(digest)
                return digest, self._kept[digest]
        try:
            pixels = decode_image(data, "The image")
        except ImageError as error:
            raise HTTPException(422, str(error)) from None
        with self._lock:
            self._kept[digest] = pixels
            while sum(each.nbytes for each in self._kept.values()) > _MAX_KEPT:
                self._kept.popitem(last=False)
        return digest, pixels
