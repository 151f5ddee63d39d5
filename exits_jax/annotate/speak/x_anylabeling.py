"""X-AnyLabeling's remote server: four points make a polygon.

Its program sends the whole image with all points of an object, at every point.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from exits_jax.annotate.bodies import answer
from exits_jax.annotate.speak.asking import Asking, Found
from exits_jax.exporters.polygons import INSET, polygons

PATH = "/x_anylabeling"
_MODEL = "exits_jax"
_MAX_POINTS = 100
_WIDGETS = (
    "button_add_point",
    "button_remove_point",
    "button_clear",
    "button_finish_object",
    "mask_fineness_slider",
)
_LABEL = "AUTOLABEL_OBJECT"  # until the person says what it is


class Mark(msgspec.Struct):
    """A point or a rectangle that a person has set."""

    type: str
    data: Annotated[list[float], Meta(max_length=4)]
    label: int = 1


class Params(msgspec.Struct):
    """What the person has set."""

    marks: Annotated[list[Mark], Meta(max_length=_MAX_POINTS)] = []
    epsilon_factor: Annotated[float, Meta(ge=0, le=0.1)] = 0.0  # share of the outline


class Body(msgspec.Struct):
    """Asks for shapes."""

    image: str  # data:TYPE;base64,...
    params: Params = msgspec.field(default_factory=Params)


class XAnyLabeling:
    """The routes that its program asks."""

    def __init__(self, asking: Asking):
        """Takes what asks for masks."""
        self._asking = asking

    def routes(self) -> list[BaseRoute]:
        """All routes."""
        models = Route("/v1/models", self.models, methods=["GET"])
        predict = Route("/v1/predict", self.predict, methods=["POST"])
        return [Mount(PATH, routes=[models, predict])]

    async def models(self, request: Request) -> Response:
        """The one model, and which buttons it needs."""
        widgets = [{"name": name, "value": None} for name in _WIDGETS]
        model = {
            "display_name": f"Four extreme points ({self._asking.name})",
            "widgets": widgets,
            "batch_processing_mode": None,
        }
        return answer({"success": True, "data": {_MODEL: model}})

    async def predict(self, request: Request) -> Response:
        """The outline of an object; no shape before its fourth point."""
        async with self._asking.body(request, Body) as body:
            return answer({"success": True, "data": await self._shapes(body)})

    async def _shapes(self, body: Body) -> dict[str, Any]:
        none = {"shapes": [], "description": "", "replace": False}
        marks = [each for each in body.params.marks if len(each.data) == 2]
        on, off = (
            [(each.data[0], each.data[1]) for each in marks if each.label == label]
            for label in (1, 0)
        )
        if len(on) < 4:  # the image need not be looked at
            return none
        digest, pixels = await self._asking.sent(body.image.partition(",")[2])

        def tell(found: Found) -> dict[str, Any]:
            return {**none, "shapes": shapes_of(found, body.params.epsilon_factor)}

        made = await self._asking.mask(
            digest, "x_anylabeling", (on, off), tell, pixels=pixels
        )
        return made or none


def shapes_of(found: Found, epsilon: float) -> list[dict[str, Any]]:
    """A mask as closed polygons, one per part, holes cut free.

    Args:
        found: The mask.
        epsilon: How far vertices that are left out may be from the outline, as a share
            of the way around the mask's box.
    """
    rows, columns = (found.part.any(axis).sum() for axis in (1, 0))
    tolerance = epsilon * 2 * float(rows + columns)
    parts = polygons(
        found.part, left=found.left, top=found.top, inset=INSET, tolerance=tolerance
    )
    return [
        {
            "label": _LABEL,
            "shape_type": "polygon",
            "points": [*points, points[0]],
            "score": found.score,
        }
        for points in (part.points.tolist() for part in parts)
    ]
