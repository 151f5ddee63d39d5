"""A generator for people without JAX: PyTorch and ONNX give its logits."""

import importlib.util
import json

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from convert_weights import onnx_file
from convert_weights.__main__ import main
from convert_weights.targets import write_safetensors
from exits_jax.models.generator import PseudoLabelGenerator
from exits_jax.models.mask_decoder import DecoderConfig
from exits_jax.models.prompt import PromptConfig
from exits_jax.models.vit import VitConfig
from exits_jax.models.weights import flatten
from exits_jax.train.objectives import ImageStats
from exits_jax.train.step import predict_step
from tests.support import toy

torch = pytest.importorskip("torch", reason="needs the 'convert' extra")
for needed in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(needed, reason="needs the extras 'onnx' and 'dev'")

import onnxruntime  # noqa: E402

from convert_weights import torch_generator  # noqa: E402

pytestmark = pytest.mark.torch

SIZE, MEAN, STD = 32, [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]
# Grid 3 is interpolated to the crop's 4.
ENCODER = VitConfig(dim=16, depth=2, heads=2, patch_size=8, position_grid=3)
DECODER = DecoderConfig(features=6)
SIGMA = 0.1
CASES = {  # who sees the clicks, who is averaged with the mirror image
    "the paper's": (None, False),
    "clicks": (PromptConfig(walk=False, sigma=SIGMA), False),
    "clicks and mirror image": (PromptConfig(walk=False, sigma=SIGMA), True),
}


def run(*args):
    return main([str(arg) for arg in args])


def facts_of(*, flip=False, walk=False):
    decoder = {"size_dependent": True, "fixed_scale": 1.0, "upsample_before": 4}
    return {
        "heads": "2",
        "decoder": json.dumps(decoder),
        "prompt": json.dumps({"walk": walk, "sigma": SIGMA}),
        "crop_size": str(SIZE),
        "test_margin": "0.8",
        "threshold": "0.25",
        "inference": json.dumps({"generate.flip": flip}),
        "image_mean": json.dumps(MEAN),
        "image_std": json.dumps(STD),
        "licence": "MIT",
    }


def write_generator(path, prompt, *, flip=False):
    """A generator with drawn parameters as a file; its graph and parameters."""
    build = lambda rngs: PseudoLabelGenerator(
        ENCODER, DECODER, prompt=prompt, rngs=rngs
    )
    graph, tree = toy.model(build)
    if prompt is not None:  # of a size that leaves the pixels a say
        kernel = tree["prompt"]["skip"]["linear"]["kernel"]
        tree["prompt"]["skip"]["linear"]["kernel"] = kernel / 64
    flat = {name: np.asarray(value) for name, value in flatten(tree).items()}
    facts = facts_of(flip=flip)
    if prompt is None:
        del facts["prompt"]
    write_safetensors(path, flat, facts)
    return graph, tree


def batch_of_four():
    """Objects of all sizes, with clicks, without, and with two clicks in one place."""
    rng = np.random.default_rng(0)
    points = np.array([[16, 4], [5, 15], [14, 28], [27.5, 18]], np.float32)
    spread = np.stack([points, points * 0.5, points, points])
    spread[3, 0] = spread[3, 1] = (5, 4)
    box = np.array([[5, 4, 27.5, 28], [2, 2, 14, 14], [5, 4, 28, 28], [5, 4, 28, 28]])
    return {
        "image": rng.integers(0, 256, (4, SIZE, SIZE, 3)).astype(np.uint8),
        "box_area": np.array([100.0, 1024.0, 9215.0, 9216.0], np.float32),
        "extreme_points": spread,
        "has_points": np.array([True, True, False, True]),
        "box": box.astype(np.float32),
        "valid_region": np.float32([[0, 0, SIZE, SIZE]] * 4),
    }


def feed_of(batch, names=onnx_file.INPUTS):
    image = batch["image"].transpose(0, 3, 1, 2).astype(np.float32) / 255
    return {name: (batch | {"image": image})[name] for name in names}


@pytest.fixture(scope="module", params=CASES)
def exported(request, tmp_path_factory):
    """Logits of four crops by JAX, and the files of the same generator."""
    prompt, flip = CASES[request.param]
    folder = tmp_path_factory.mktemp("onnx")
    ours = folder / "ours.safetensors"
    graph, tree = write_generator(ours, prompt, flip=flip)
    stats = ImageStats(tuple(MEAN), tuple(STD))
    predict = nnx.jit(
        lambda tree, x: predict_step(graph, tree, x, stats=stats, flip=flip)
    )
    batch = {name: jnp.asarray(value) for name, value in batch_of_four().items()}
    logits = np.asarray(predict(tree, batch))
    assert logits.std() > 0.1
    for target, name in (("torch-generator", "torch.safetensors"), ("onnx", "x.onnx")):
        assert run(ours, f"--to={target}", f"--out={folder / name}") == 0
    return logits, folder


def session_of(folder):
    return onnxruntime.InferenceSession(
        folder / "x.onnx", providers=["CPUExecutionProvider"]
    )


def assert_close(logits, expected):
    probs = lambda x: 1 / (1 + np.exp(-np.float64(x)))
    assert logits.shape == expected.shape
    assert np.abs(probs(logits) - probs(expected)).max() < 1e-4


def test_pytorch_gives_the_logits_of_jax(exported):
    expected, folder = exported
    model = torch_generator.load(str(folder / "torch.safetensors"))
    tensors = [torch.tensor(value) for value in feed_of(batch_of_four()).values()]
    assert_close(model(*tensors).numpy(), expected)


def test_onnxruntime_gives_the_logits_of_jax(exported):
    expected, folder = exported
    session = session_of(folder)
    names = [each.name for each in session.get_inputs()]
    (logits,) = session.run(["logits"], feed_of(batch_of_four(), names))
    assert_close(logits, expected)


def test_a_batch_has_any_length(exported):
    expected, folder = exported
    session = session_of(folder)
    names = [each.name for each in session.get_inputs()]
    feed = feed_of(batch_of_four(), names)
    for rows in (slice(0, 1), slice(1, 4)):
        part = {name: value[rows] for name, value in feed.items()}
        assert_close(session.run(None, part)[0], expected[rows])


def test_the_graph_has_the_inputs_that_its_generator_reads(exported):
    _, folder = exported
    session = session_of(folder)
    sees = json.loads(session.get_modelmeta().custom_metadata_map["sees_clicks"])
    names = tuple(each.name for each in session.get_inputs())
    assert names == (onnx_file.INPUTS if sees else ("image", "box_area"))
    assert session.get_inputs()[0].shape == ["batch", 3, SIZE, SIZE]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Source and graph of one generator that sees clicks."""
    folder = tmp_path_factory.mktemp("one")
    source, out = folder / "ours.safetensors", folder / "x.onnx"
    write_generator(source, PromptConfig(walk=False, sigma=SIGMA), flip=True)
    assert run(source, "--to=onnx", f"--out={out}") == 0
    return source, out


def test_metadata_say_what_a_user_needs(written):
    session = session_of(written[1].parent)
    facts = session.get_modelmeta().custom_metadata_map
    wanted = {
        "crop_size": str(SIZE),
        "test_margin": "0.8",
        "threshold": "0.25",
        "flip": "true",
        "sees_clicks": "true",
        "licence": "MIT",
        "format": "onnx",
        "contents": "generator",
    }
    assert wanted.items() <= facts.items()


def test_the_same_source_gives_the_same_bytes(written, tmp_path):
    source, out = written
    assert run(source, "--to=onnx", f"--out={tmp_path / 'again.onnx'}") == 0
    assert (tmp_path / "again.onnx").read_bytes() == out.read_bytes()


def test_no_line_of_code_or_path_is_in_the_file(written):
    content = written[1].read_bytes()
    assert b".py" not in content and str(toy.ROOT).encode() not in content


def test_a_file_of_another_name_is_refused(written, tmp_path, capsys):
    out = tmp_path / "x.safetensors"
    assert run(written[0], "--to=onnx", f"--out={out}") == 2
    assert "expected a name that ends in .onnx" in capsys.readouterr().err


def test_a_missing_package_is_named_with_the_command(
    written, tmp_path, capsys, monkeypatch
):
    found = importlib.util.find_spec
    hide = lambda name, *rest: None if name == "onnxscript" else found(name, *rest)
    monkeypatch.setattr(importlib.util, "find_spec", hide)
    out = tmp_path / "x.onnx"
    assert run(written[0], "--to=onnx", f"--out={out}") == 3
    said = "--to=onnx needs onnxscript. Install the extra onnx: pip install "
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_more_than_a_file_holds_is_refused(written, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(onnx_file, "_LIMIT", 1000)
    assert run(written[0], "--to=onnx", f"--out={tmp_path / 'x.onnx'}") == 3
    assert "holds at most 2 GiB" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_crops_that_are_no_whole_number_of_patches_are_refused(tmp_path, capsys):
    _, tree = write_generator(tmp_path / "a.safetensors", None)
    flat = {name: np.asarray(value) for name, value in flatten(tree).items()}
    facts = {k: v for k, v in facts_of().items() if k != "prompt"}
    write_safetensors(tmp_path / "b.safetensors", flat, facts | {"crop_size": "36"})
    out = tmp_path / "x.onnx"
    assert run(tmp_path / "b.safetensors", "--to=onnx", f"--out={out}") == 3
    assert "crops of 36 px (crop_size) are no whole number" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["onnx", "torch-generator"])
def test_a_generator_that_sees_the_walk_is_refused(target, tmp_path, capsys):
    _, tree = write_generator(tmp_path / "a.safetensors", PromptConfig())
    flat = {name: np.asarray(value) for name, value in flatten(tree).items()}
    source = tmp_path / "walk.safetensors"
    write_safetensors(source, flat, facts_of(walk=True))
    out = tmp_path / ("x.onnx" if target == "onnx" else "x.safetensors")
    assert run(source, f"--to={target}", f"--out={out}") == 3
    said = capsys.readouterr().err
    assert "trained with prompt.walk=True" in said and f"--to={target}" in said
    assert not out.exists()


def test_a_generator_that_sees_clicks_asks_for_them(written, tmp_path):
    out = tmp_path / "torch.safetensors"
    assert run(written[0], "--to=torch-generator", f"--out={out}") == 0
    model = torch_generator.load(str(out))
    with pytest.raises(ValueError, match="extreme_points, has_points and box"):
        model(torch.zeros(1, 3, SIZE, SIZE), torch.ones(1))
