"""What Label Studio's server sends, as far as it is looked at."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.exceptions import HTTPException

_MAX_TASKS = 10_000


class Value(msgspec.Struct):
    """Where a keypoint is, percent from edge to edge, and what it is called."""

    x: float
    y: float
    keypointlabels: list[str] = []


class Region(msgspec.Struct):
    """A region that a person has drawn."""

    type: str
    value: dict[str, Any]
    original_width: int = 0
    original_height: int = 0
    image_rotation: float = 0
    to_name: str = ""  # of the image in the labeling interface
    is_positive: bool = True

    def keypoint(self) -> Value:
        """Its value.

        Raises:
            HTTPException: If it is none of a keypoint (400).
        """
        try:
            return msgspec.convert(self.value, Value)
        except msgspec.ValidationError as error:
            raise HTTPException(400, f"The keypoint makes no sense: {error}") from None


class Context(msgspec.Struct):
    """What a person has drawn since the last suggestion was taken."""

    result: Annotated[list[Region], Meta(max_length=1000)] = []

    @property
    def keypoints(self) -> list[Region]:
        """Those of it that are keypoints, in the order in which they were set."""
        return [each for each in self.result if each.type == "keypointlabels"]


class Params(msgspec.Struct):
    """How the server asks; its login and password are not looked at."""

    context: Context | None = None


class Task(msgspec.Struct):
    """What is annotated."""

    id: int | str | None = None
    data: dict[str, Any] = {}


class PredictBody(msgspec.Struct):
    """Asks for regions."""

    tasks: Annotated[list[Task], Meta(max_length=_MAX_TASKS)]
    label_config: Annotated[str, Meta(max_length=2**20)] = ""
    params: Params | None = None


class SetupBody(msgspec.Struct):
    """Tells of a project; the user's access token in it is not looked at."""

    schema: Annotated[str, Meta(max_length=2**20)] = ""


class WebhookBody(msgspec.Struct):
    """Tells that something was done."""

    action: str = ""
