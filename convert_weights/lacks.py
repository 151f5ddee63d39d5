"""What a target has no place for: refused, or left out and said."""

import json
from collections.abc import Mapping

import numpy as np

from .convert import ConversionError
from .exports import WHOLE
from .shapes import is_joined_by_walk, sees_clicks


def refuse_walk(
    params: Mapping[str, np.ndarray], metadata: Mapping[str, str], target: str
) -> None:
    """Refuses a generator whose input holds the walk from the clicks.

    Raises:
        ConversionError: The target computes the generator, which has the walk's map
            among its inputs, or nothing says whether it has.
    """
    if target not in WHOLE or not sees_clicks(params):
        return
    if "prompt" not in metadata:
        problem = (
            "the generator sees the clicks, and the metadata do not say how (prompt): "
            "convert the run again"
        )
    elif json.loads(metadata["prompt"])["walk"]:
        problem = (
            "the generator was trained with prompt.walk=True: it sees the walk of "
            f"another encoder beside the pixels, which --to={target} has no place for. "
            "--to=exits_jax keeps all of it; a generator that was trained with "
            "prompt.walk=False can be written"
        )
    else:
        return
    raise ConversionError([problem], len(params))


def left_out(
    params: Mapping[str, np.ndarray], metadata: Mapping[str, str], target: str
) -> list[str]:
    """What the masks of this package are made with beside what is written."""
    if target in ("timm", "hf") and sees_clicks(params):
        return [
            "the encoder was trained with the clicks added to its patches "
            "(prompt.enabled); what adds them is left out, as the decoder is"
        ]
    if target not in WHOLE:
        return []
    found = []
    decided = json.loads(metadata.get("inference", "{}"))
    is_joined = is_joined_by_walk(params)
    if is_joined:
        found.append(
            "the run adds the walk from the clicks to its generator's masks "
            "(generate.source); what is written is the generator alone"
        )
    if decided.get("generate.crf") and not is_joined:
        found.append("the run refines its masks by a CRF (generate.crf), left out here")
    if decided.get("generate.click_depth"):
        found.append(
            "the run holds the clicks inside its masks (generate.click_depth), left "
            "out here"
        )
    return found
