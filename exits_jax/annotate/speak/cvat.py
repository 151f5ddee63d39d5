"""CVAT's gateway to functions that make masks, of which ours is the only one.

CVAT asks a Nuclio dashboard which functions there are, and passes the clicks of its
page on to them. Its coordinates count from the corner of the image.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from exits_jax.annotate.bodies import answer
from exits_jax.annotate.speak.asking import Asking, Found

FUNCTIONS, INVOCATIONS = "/api/functions", "/api/function_invocations"
_NAME = "exits-jax"
_HEADER = "x-nuclio-function-name"
_HALF = 0.5  # px from the corner of the image to the centre of its first pixel
_Points = Annotated[list[tuple[float, float]], Meta(max_length=100)]


class Body(msgspec.Struct):
    """Asks for the mask of an object."""

    image: str  # base 64
    pos_points: _Points
    neg_points: _Points = []


class Cvat:
    """The routes that CVAT's server asks."""

    def __init__(self, asking: Asking, port: int):
        """Takes what asks for masks, and the port of this server."""
        self._asking, self._port = asking, port

    def routes(self) -> list[BaseRoute]:
        """All routes."""
        return [
            Route(FUNCTIONS, self.functions, methods=["GET"]),
            Route(FUNCTIONS + "/{name}", self.function, methods=["GET"]),
            Route(INVOCATIONS, self.invoke, methods=["POST"]),
        ]

    async def functions(self, request: Request) -> Response:
        """All functions by name."""
        return answer({_NAME: self._described()})

    async def function(self, request: Request) -> Response:
        """One function."""
        if request.path_params["name"] != _NAME:
            raise HTTPException(404, f"The only function is {_NAME}.")
        return answer(self._described())

    async def invoke(self, request: Request) -> Response:
        """The mask of an object."""
        if request.headers.get(_HEADER) != _NAME:
            raise HTTPException(404, f"The only function is {_NAME}.")
        async with self._asking.body(request, Body) as body:
            if len(body.pos_points) < 4:
                raise HTTPException(422, "Set the four outermost points of an object.")
            digest, pixels = await self._asking.sent(body.image)
            points = shifted(body.pos_points), shifted(body.neg_points)
            made = await self._asking.mask(
                digest, "cvat", points, mask_of, pixels=pixels
            )
        if made is None:
            raise HTTPException(409, "A newer request came.")
        return answer(made)

    def _described(self) -> dict[str, Any]:
        annotations = {
            "name": f"Four extreme points ({self._asking.name})",
            "type": "interactor",
            "version": "2",
            "spec": "",
            "min_pos_points": "4",
            "min_neg_points": "0",
            "animated_gif": "",
            "help_message": "Click the topmost, leftmost, bottommost and rightmost "
            "point of an object; a negative point drops the part of the mask at it.",
        }
        return {
            "metadata": {"name": _NAME, "annotations": annotations},
            "spec": {"description": "Masks from four extreme points."},
            "status": {"state": "ready", "httpPort": self._port},
        }


def shifted(points: _Points) -> _Points:
    """From the corner of the image to the centre of its first pixel."""
    return [(x - _HALF, y - _HALF) for x, y in points]


def mask_of(found: Found) -> dict[str, Any]:
    """A mask as zeros and ones within its box, whose edges are pixels of it."""
    height, width = found.part.shape
    right, bottom = found.left + width - 1, found.top + height - 1
    return {
        "mask": found.part.astype(int).tolist(),
        "bounds": [found.left, found.top, right, bottom],
    }
