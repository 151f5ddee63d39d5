"""Label Studio's machine learning backend: four smart keypoints make a brush mask."""

import asyncio
import logging
from typing import Any, NamedTuple

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from exits_jax.annotate.bodies import answer, read_body
from exits_jax.annotate.speak.asking import Asking, Found
from exits_jax.annotate.speak.label_studio_bodies import (
    PredictBody,
    Region,
    SetupBody,
    Task,
    WebhookBody,
)
from exits_jax.annotate.store import Store
from exits_jax.data.image_finder import Found as FoundFile
from exits_jax.data.image_finder import ImageFinder
from exits_jax.data.image_names import AS_WRITTEN, Listing, last_part
from exits_jax.data.images import ImageError, image_remarks
from exits_jax.data.records import AnnotationError, fault
from exits_jax.exporters.label_studio_rle import encode
from exits_jax.importers.label_studio_fields import image_path

PATH = "/label_studio"
_MAX_BODY = 8 * 2**20
_DECIMALS = 3  # of a pixel; percents have errors of rounding
_MAX_LISTED = 3
_UPLOAD = "/data/upload/"  # whose names have lost their folders
_NO_INTERFACE = (
    "The labeling interface has no <BrushLabels> and <KeyPointLabels> of one <Image> "
    "with a value such as $image; masks need all three."
)
_logger = logging.getLogger(__name__)


class Interface(NamedTuple):
    """Names of a labeling interface that regions repeat."""

    brush: str
    image: str
    field: str  # of the data of a task, where the path of the image is


class LabelStudio:
    """The routes that Label Studio's server asks."""

    def __init__(self, asking: Asking, store: Store):
        """Takes what asks for masks, and whose images they are."""
        self._asking, self._store = asking, store
        self._finder = ImageFinder(store.task.folder)
        self._places = {each.name: n for n, each in enumerate(store.pictures)}
        self._ends = Listing({last_part(name) for name in self._places})

    def routes(self) -> list[BaseRoute]:
        """All routes."""
        post = ["POST"]
        inner = [
            Route("/health", self.health, methods=["GET"]),
            Route("/setup", self.setup, methods=post),
            Route("/predict", self.predict, methods=post),
            Route("/webhook", self.webhook, methods=post),
        ]
        return [Mount(PATH, routes=inner)]

    async def health(self, request: Request) -> Response:
        """The server is there, though the model may still be loading."""
        return answer({"status": "UP", "model_class": "exits_jax"})

    async def setup(self, request: Request) -> Response:
        """A project is connected."""
        body = await read_body(request, SetupBody, most=_MAX_BODY)
        if not interfaces_of(body.schema):
            _logger.warning("%s", _NO_INTERFACE)
        return answer({"model_version": self._asking.name})

    async def webhook(self, request: Request) -> Response:
        """Nothing is done at what the server tells."""
        body = await read_body(request, WebhookBody, most=_MAX_BODY)
        if body.action == "START_TRAINING":
            raise HTTPException(501, "Train by the command exits-jax run.")
        return answer({})

    async def predict(self, request: Request) -> Response:
        """The mask of an object; no region before its fourth keypoint."""
        body = await read_body(request, PredictBody, most=_MAX_BODY)
        context = body.params.context if body.params else None
        drawn = context.keypoints if context else []
        if not drawn or len(body.tasks) != 1:
            return answer({"results": [self._empty() for _ in body.tasks]})
        made = await self._region(body, drawn)
        if made is None:
            return answer({"results": [self._empty()]})
        result = {**self._empty(), "result": [made], "score": made["score"]}
        return answer({"results": [result]})

    def _empty(self) -> dict[str, Any]:
        return {"result": [], "score": 0.0, "model_version": self._asking.name}

    async def _region(
        self, body: PredictBody, drawn: list[Region]
    ) -> dict[str, Any] | None:
        (task,) = body.tasks
        clicked = {each.to_name for each in drawn}
        known = interfaces_of(body.label_config)
        interface = next((each for each in known if {each.image} == clicked), None)
        if interface is None:
            raise _refused(_NO_INTERFACE)
        values = [each.keypoint() for each in drawn]
        on, off = list[tuple[float, float]](), list[tuple[float, float]]()
        if sum(each.is_positive for each in drawn) < 4:
            return None
        place = await asyncio.to_thread(self._place, task, interface.field)
        height, width = self._store.pictures[place].size
        for region, value in zip(drawn, values):
            self._check(region, place)
            point = pixel_at(value.x, width), pixel_at(value.y, height)
            (on if region.is_positive else off).append(point)
        labels = values[0].keypointlabels

        def tell(found: Found) -> dict[str, Any]:
            return region_of(found, interface, labels)

        return await self._asking.mask(place, f"task{task.id}", (on, off), tell)

    def _place(self, task: Task, field: str) -> int:
        """The image of a task, by the end of its path; nothing is fetched."""
        shown = f"{task.data.get(field, task.data)!a:.200}"
        try:
            place = self._found(_path_of(task, field))
        except AnnotationError as error:
            raise _refused(f"{shown}: {error.problems[0].message}") from None
        except (FileNotFoundError, KeyError):
            raise _refused(f"No image of the folder is told by {shown}.") from None
        picture = self._store.pictures[place]
        if picture.fault:
            raise HTTPException(422, picture.fault)
        try:
            remarks = image_remarks(self._store.task.folder / picture.name)
        except (ImageError, OSError):
            raise _refused(f"{picture.name!a:.200} can no longer be read.") from None
        if "orientation_ignored" in remarks:
            raise _refused(
                f"{picture.name!a:.200} is shown as its EXIF orientation turns or "
                "mirrors it. Store it as it is shown."
            )
        return place

    def _found(self, path: str) -> int:
        """The image that a path leads to.

        A path whose folders say nothing, as those of uploads, counts only if one
        image has its last part.
        """
        try:
            found = self._finder.find(path, any_end=True)
        except FileNotFoundError:
            found = FoundFile(last_part(path), "end")
        is_upload = _UPLOAD in f"/{path}" or last_part(found.name) != last_part(path)
        is_told = found.how in AS_WRITTEN or ("/" in found.name and not is_upload)
        if is_told:
            return self._places[found.name]
        ends, _ = self._ends.like(last_part(found.name))
        places = [n for name, n in self._places.items() if last_part(name) in ends]
        if len(places) > 1:
            listed = ", ".join(
                f"{self._store.pictures[n].name!a:.80}" for n in places[:_MAX_LISTED]
            )
            raise fault("E111", f"several images may be meant, such as {listed}.")
        if not places:
            raise FileNotFoundError(path)
        return places[0]

    def _check(self, region: Region, place: int) -> None:
        """Refuses coordinates of another frame."""
        picture = self._store.pictures[place]
        shown = region.original_height, region.original_width
        if region.image_rotation or shown != picture.size:
            raise _refused(
                f"{picture.name!a:.200} is shown with {shown[1]}x{shown[0]} px, turned "
                f"by {region.image_rotation:g} degrees, but stored with "
                f"{picture.size[1]}x{picture.size[0]} px. Store it as it is shown."
            )


def _refused(said: str) -> HTTPException:
    """The answer to what cannot be done, which the terminal tells, too."""
    _logger.warning("%s", said)
    return HTTPException(422, said)


def _path_of(task: Task, field: str) -> str:
    """The path of the image in the field that the interface names.

    Raises:
        AnnotationError: There is none.
    """
    if not isinstance(task.data.get(field), str):
        raise fault("E102", f"the task has no text {field!a:.80}, as <Image> wants.")
    return image_path({field: task.data[field]}, [{"source": f"${field}"}])


def pixel_at(percent: float, length: int) -> float:
    """Where a keypoint is, (0 the centre of the first pixel), on the image.

    Args:
        percent: 0 to 100, from edge to edge.
        length: Width or height of the image, px.
    """
    return round(min(max(percent / 100 * length - 0.5, 0.0), length - 1.0), _DECIMALS)


def interfaces_of(text: str) -> list[Interface]:
    """The brushes of a labeling interface whose images take keypoints, too."""
    try:
        root = fromstring(text)
    except (ParseError, DefusedXmlException, ValueError):
        return []
    points = {each.get("toName") for each in root.iter("KeyPointLabels")}
    fields = {each.get("name"): each.get("value", "") for each in root.iter("Image")}
    found = []
    for brush in root.iter("BrushLabels"):
        name, image = brush.get("name"), brush.get("toName")
        field = fields.get(image, "")
        if name and image and image in points and field.startswith("$"):
            found.append(Interface(name, image, field[1:]))
    return found


def region_of(found: Found, interface: Interface, labels: list[str]) -> dict[str, Any]:
    """A mask as a region of a brush."""
    height, width = found.size
    packed = encode(
        found.part, left=found.left, top=found.top, width=width, height=height
    )
    return {
        "type": "brushlabels",
        "from_name": interface.brush,
        "to_name": interface.image,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "score": found.score,
        "value": {"format": "rle", "rle": packed, "brushlabels": labels},
    }
