r"""A function of CVAT's agents: masks from four extreme points, by a model of ours.

CVAT's command-line client runs it where the model is, in an environment that has both:

    cvat-cli function create-native "Four extreme points" \
        --function-module=exits_jax.annotate.cvat_agent -p model=str:runs/mine
    cvat-cli function run-agent ID \
        --function-module=exits_jax.annotate.cvat_agent -p model=str:runs/mine

It follows the source of `cvat-sdk` 2.80 and was never tried with a server.
"""

import importlib
from typing import Any

import numpy as np

from exits_jax.annotate.speak.cvat import shifted
from exits_jax.annotate.speak.prompts import four_of, without

_CONFIDENCE = 0  # which attribute of a shape holds it


class Agent:
    """What the client asks: `spec`, `preprocess_image` and `detect`."""

    def __init__(self, predictor: Any):
        """Takes a `Predictor`."""
        self._predictor = predictor
        self._functions = importlib.import_module("cvat_sdk.auto_annotation")
        self._encode = importlib.import_module("cvat_sdk.masks").encode_mask
        self._value = importlib.import_module("cvat_sdk.models").AttributeValRequest

    @property
    def spec(self) -> Any:
        """Four points or more on the object, others off it; no box."""
        return self._functions.InteractionFunctionSpec(
            min_pos_points=4, min_neg_points=0
        )

    def preprocess_image(self, context: Any, image: Any) -> np.ndarray:
        """The pixels of a Pillow image, uint8 [height, width, 3]."""
        return np.array(image.convert("RGB"))

    def detect(self, context: Any, pp_image: np.ndarray, prompts: Any) -> list[Any]:
        """The mask of one object; nothing where no pixel exceeds the threshold."""
        four = four_of(shifted(list(prompts.pos_points)))
        if four is None:
            return []
        (found,) = self._predictor.predict_many([four], image=pp_image)
        off = shifted(list(prompts.neg_points))
        part = without(found.part, found.origin, off)
        if not part.any():
            return []
        mask = np.zeros(pp_image.shape[:2], bool)
        left, top = found.origin
        mask[top : top + part.shape[0], left : left + part.shape[1]] = part
        score = self._value(spec_id=_CONFIDENCE, value=f"{found.score:.4f}")
        shape = self._functions.InteractionResultShape
        return [shape(type="mask", points=self._encode(mask), attributes=[score])]


def create(model: str, weights: str | None = None, dtype: str | None = None) -> Agent:
    """What the client calls with the parameters of `-p`.

    Args:
        model: As for `Predictor.load`.
        weights: Likewise.
        dtype: Likewise.
    """
    predictor = importlib.import_module("exits_jax.predict.predictor").Predictor
    return Agent(predictor.load(model, weights=weights, dtype=dtype))
