"""The code of docs/onnx.md, as it stands there, and its twin in PyTorch."""

import re

import jax
import numpy as np
import pytest

from convert_weights.__main__ import main as convert
from exits_jax.data.images import read_image
from exits_jax.labeling.model_source import find_model
from exits_jax.predict.predictor import Predictor
from tests.support.toy import ROOT

torch = pytest.importorskip("torch", reason="needs the 'convert' extra")
for needed in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(needed, reason="needs the extras 'onnx' and 'dev'")

from convert_weights import torch_generator  # noqa: E402

pytestmark = pytest.mark.torch

ALONE = {
    "generate.source": "generator",
    "generate.crf": False,
    "generate.click_depth": 0.0,
}
# The window leaves the image on two sides, and some clicks lie between pixels.
CLICKS = np.array([[20.0, 2.5], [1.0, 22.0], [21.25, 41.0], [40.0, 20.5]])


@pytest.fixture(scope="module")
def alone(generator_file):
    """The predictor of a generator file, with the generator's masks as they are."""
    model = find_model(str(generator_file))
    assert model.config.prompt.enabled and model.config.generate.flip
    model.config.update_from_flattened_dict(ALONE)
    return Predictor(model._replace(encoder=None))


@pytest.fixture(scope="module")
def scene(dataset):
    return read_image(next((dataset / "images").iterdir()))


@pytest.fixture(scope="module")
def page(generator_file, tmp_path_factory):
    """What the code of the page defines."""
    out = tmp_path_factory.mktemp("page") / "generator.onnx"
    assert convert([str(generator_file), "--to=onnx", f"--out={out}"]) == 0
    text = (ROOT / "docs" / "onnx.md").read_text()
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    names: dict = {}
    exec(code.replace("generator.onnx", str(out)), names)
    return names


@pytest.fixture(scope="module")
def in_torch(generator_file, tmp_path_factory):
    out = tmp_path_factory.mktemp("torch") / "generator.safetensors"
    assert convert([str(generator_file), "--to=torch-generator", f"--out={out}"]) == 0
    return torch_generator.load(str(out))


def median_threshold(predictor, scene):
    """A threshold that cuts the object of `CLICKS` in halves."""
    (found,) = predictor.predict_many([CLICKS], image=scene)
    return float(jax.nn.sigmoid(np.median(found.logits)))


def assert_same(mask, expected):
    inside = expected[2:42, 1:41]
    assert 0.2 < inside.mean() < 0.8  # a mask with both kinds of pixels
    assert mask.shape == expected.shape and mask.dtype == bool
    assert (mask != expected).sum() <= 2  # that lie on the threshold


def test_the_code_of_the_page_gives_the_masks_of_the_predictor(alone, page, scene):
    (found,) = alone.predict_many([CLICKS], image=scene)
    threshold = median_threshold(alone, scene)
    page["cut"] = threshold
    assert_same(page["predict"](scene, CLICKS), found.at(threshold).mask)


@pytest.mark.parametrize(
    "given", [CLICKS, (1.0, 2.5, 41.0, 42.0)], ids=["clicks", "box"]
)
def test_pytorch_gives_the_masks_of_the_predictor(alone, in_torch, scene, given):
    (found,) = alone.predict_many([given], image=scene)
    threshold = median_threshold(alone, scene)
    in_torch.threshold = threshold
    mask, score = torch_generator.predict(in_torch, scene, given)
    assert_same(mask, found.at(threshold).mask)
    assert score == pytest.approx(found.at(threshold).score, abs=1e-4)


def test_what_joins_the_masks_of_the_run_is_said_to_be_left_out(
    generator_file, tmp_path, capsys
):
    out = tmp_path / "generator.onnx"
    assert convert([str(generator_file), "--to=onnx", f"--out={out}"]) == 0
    said = capsys.readouterr().out
    assert "what is written is the generator alone" in said
    assert "(generate.click_depth), left out here" in said
