"""Back to the names of others: nothing is lost, and PyTorch computes the same."""

import ast
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from convert_weights import rules
from convert_weights.__main__ import main
from convert_weights.convert import ConversionError, convert
from convert_weights.exports import WHOLE, export
from convert_weights.rules import KINDS
from convert_weights.targets import write_safetensors
from exits_jax.models.generator import PseudoLabelGenerator
from exits_jax.models.mask_decoder import DecoderConfig
from exits_jax.models.params import bind
from exits_jax.models.vit import VitConfig
from exits_jax.models.weights import flatten
from tests.support import checkpoints, toy

PARAMS = convert(checkpoints.timm(), KINDS["timm"]).params
GENERATOR = convert(
    checkpoints.mask_auto_labeler(checkpoints.timm(), checkpoints.decoder()),
    KINDS["mal"],
).params


def run(*args):
    return main([str(arg) for arg in args])


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value.tobytes() == other[name].tobytes(), name


def test_to_timm_and_back_is_the_same_bit_for_bit(tmp_path):
    save_file(checkpoints.timm(), tmp_path / "source.safetensors")
    ours, timm, back = (tmp_path / f"{k}.safetensors" for k in ("a", "b", "c"))
    assert run(tmp_path / "source.safetensors", f"--out={ours}") == 0
    assert run(ours, "--to=timm", f"--out={timm}") == 0
    assert run(timm, f"--out={back}") == 0
    assert_same(load_file(timm), checkpoints.timm())
    assert_same(load_file(back), load_file(ours))


def test_to_hugging_face_and_back_is_the_same_bit_for_bit(tmp_path):
    save_file(checkpoints.timm(), tmp_path / "source.safetensors")
    folder, back = tmp_path / "hf", tmp_path / "back.safetensors"
    options = ("--heads=2", "--licence=MIT")
    assert (
        run(tmp_path / "source.safetensors", "--to=hf", f"--out={folder}", *options)
        == 0
    )
    assert run(folder, f"--out={back}") == 0
    assert_same(load_file(back), PARAMS)


def test_hugging_face_config_has_the_right_epsilon_and_sizes(tmp_path):
    save_file(checkpoints.timm(), tmp_path / "source.safetensors")
    run(tmp_path / "source.safetensors", "--to=hf", "--heads=2", f"--out={tmp_path}/hf")
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert config["layer_norm_eps"] == 1e-6
    assert (config["hidden_size"], config["image_size"]) == (8, 12)
    assert (config["patch_size"], config["num_attention_heads"]) == (4, 2)


def test_heads_that_nothing_says_are_asked_for(tmp_path, capsys):
    save_file(checkpoints.timm(), tmp_path / "source.safetensors")
    assert run(tmp_path / "source.safetensors", "--to=hf", f"--out={tmp_path}/hf") == 2
    assert "--to=hf needs --heads=NUMBER" in capsys.readouterr().err
    assert not (tmp_path / "hf").exists()


def test_folder_that_exists_is_not_replaced(tmp_path, capsys):
    save_file(checkpoints.timm(), tmp_path / "source.safetensors")
    assert run(tmp_path / "source.safetensors", "--to=hf", f"--out={tmp_path}") == 2
    assert "expected the name of a new folder" in capsys.readouterr().err


def test_generator_to_pytorch_and_back_is_the_same_bit_for_bit():
    tensors = export(GENERATOR, "torch-generator")
    assert_same(convert(tensors, KINDS["torch_generator"]).params, GENERATOR)


def test_encoder_of_a_generator_goes_to_timm():
    assert export(GENERATOR, "timm").keys() == checkpoints.timm().keys()


@pytest.mark.parametrize("target", WHOLE)
def test_encoder_alone_is_no_generator(target):
    with pytest.raises(ConversionError, match=f"--to={target} needs a whole generator"):
        export(PARAMS, target)


def test_the_pytorch_module_can_be_copied_alone():
    tree = ast.parse(Path(rules.__file__).with_name("torch_generator.py").read_text())
    names = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or "."]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
        )
    }
    others = names - sys.stdlib_module_names
    assert others == {"torch", "safetensors", "numpy", "PIL"}


def test_conv_stem_has_no_place_in_timm():
    backbone = checkpoints.conv_stem(checkpoints.timm())
    source = checkpoints.mask_auto_labeler(backbone, checkpoints.decoder())
    params = convert(source, KINDS["mal"]).params
    with pytest.raises(ConversionError, match="no place for patch_embedding/convs/0"):
        export(params, "timm")


def test_licence_and_first_source_are_passed_on(tmp_path):
    save_file(checkpoints.timm(), tmp_path / "source.safetensors")
    ours, timm = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    run(tmp_path / "source.safetensors", f"--out={ours}", "--licence=MIT")
    run(ours, "--to=timm", f"--out={timm}")
    first, second = metadata_of(ours), metadata_of(timm)
    for name in ("licence", "source", "source_sha256", "kind", "image_mean"):
        assert first[name] == second[name]
    assert second["format"] == "pt"


def metadata_of(path):
    with safe_open(path, "numpy") as file:
        return file.metadata()


CASES = {
    "the paper's": (VitConfig(), DecoderConfig()),
    "conv stem": (VitConfig(stem="conv"), DecoderConfig()),
    "no class token": (VitConfig(class_token=False), DecoderConfig(upsample_before=3)),
    "another grid": (VitConfig(position_grid=5), DecoderConfig()),
    "the baseline's grid": (
        VitConfig(position_grid=5, position_offset=0.1),
        DecoderConfig(size_dependent=False, fixed_scale=2.0),
    ),
}


@pytest.mark.torch
@pytest.mark.parametrize("name", CASES)
def test_masks_in_pytorch_are_the_same(tmp_path, name):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from convert_weights import torch_generator

    encoder, decoder = CASES[name]
    grid = 4 if encoder.position_grid == 14 else encoder.position_grid
    encoder = encoder._replace(
        dim=16, depth=2, heads=2, patch_size=8, position_grid=grid
    )
    decoder = decoder._replace(features=6)
    build = lambda rngs: PseudoLabelGenerator(encoder, decoder, rngs=rngs)
    graph, tree = toy.model(build)
    crops = np.random.default_rng(0).uniform(size=(4, 32, 32, 3)).astype(np.float32)
    area = np.array([100.0, 1024.0, 9215.0, 9216.0], np.float32)
    mean, std = np.float32([0.4, 0.5, 0.6]), np.float32([0.2, 0.3, 0.25])
    expected = nnx.jit(lambda model, image: model(image, jnp.asarray(area)))(
        bind(graph, tree), jnp.asarray((crops - mean) / std)
    )

    flat = {name: np.asarray(value) for name, value in flatten(tree).items()}
    options = decoder._asdict()
    facts = {
        "heads": "2",
        "position_offset": str(encoder.position_offset),
        "decoder": json.dumps(
            {
                k: options[k]
                for k in ("size_dependent", "fixed_scale", "upsample_before")
            }
        ),
        "image_mean": json.dumps([0.4, 0.5, 0.6]),
        "image_std": json.dumps([0.2, 0.3, 0.25]),
    }
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "torch.safetensors"
    write_safetensors(ours, flat, facts)
    assert run(ours, "--to=torch-generator", f"--out={theirs}") == 0
    model = torch_generator.load(str(theirs))
    logits = model(
        torch.from_numpy(crops.transpose(0, 3, 1, 2).copy()), torch.from_numpy(area)
    )
    assert logits.shape == expected.shape
    difference = jax.nn.sigmoid(logits.numpy()) - jax.nn.sigmoid(expected)
    assert np.abs(difference).max() < 1e-4
    assert np.asarray(jax.nn.sigmoid(expected)).std() > 0.01
