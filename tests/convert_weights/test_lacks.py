"""What a target has no place for is refused or said."""

import json

import numpy as np
import pytest

from convert_weights.convert import ConversionError
from convert_weights.exports import WHOLE
from convert_weights.lacks import left_out, refuse_walk

PLAIN = {"decoder/x": np.zeros(1)}
CLICKS = PLAIN | {"prompt/skip/linear/kernel": np.zeros((7, 1))}
JOINED = PLAIN | {"walk/x": np.zeros(1)}


def decided(**fields):
    return {"inference": json.dumps({f"generate.{k}": v for k, v in fields.items()})}


@pytest.mark.parametrize("target", WHOLE)
def test_a_crf_and_clicks_held_inside_are_said_to_be_left_out(target):
    metadata = decided(crf=True, click_depth=0.2)
    of_crf, of_clicks = left_out(PLAIN, metadata, target)
    assert "generate.crf" in of_crf and "generate.click_depth" in of_clicks


def test_the_crf_of_a_walk_that_is_left_out_goes_with_it():
    (said,) = left_out(JOINED, decided(crf=True, click_depth=0.0), "onnx")
    assert "generate.source" in said


def test_nothing_is_said_where_nothing_is_left_out():
    assert left_out(PLAIN, decided(crf=False, click_depth=0.0), "onnx") == []
    assert left_out(PLAIN, {}, "torch-generator") == []
    assert left_out(CLICKS, decided(crf=True), "exits_jax") == []


@pytest.mark.parametrize("target", WHOLE)
def test_clicks_that_nothing_describes_are_refused(target):
    with pytest.raises(ConversionError, match="metadata do not say how"):
        refuse_walk(CLICKS, {}, target)


@pytest.mark.parametrize("target", ["exits_jax", "timm", "hf"])
def test_a_generator_that_sees_the_walk_keeps_its_other_targets(target):
    refuse_walk(CLICKS, {"prompt": json.dumps({"walk": True, "sigma": 0.03})}, target)
