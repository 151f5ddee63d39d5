"""A run's generator as a file: out of a run, into PyTorch and into another run."""

import json
import re
import shutil

import jax
import jax.numpy as jnp
import ml_collections as mlc
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from convert_weights.__main__ import main as convert
from exits_jax import exit_status, main
from exits_jax.models.params import abstract_graph, bind, init_params
from exits_jax.models.vit import VisionTransformer, vit_config
from exits_jax.models.weights import flatten
from exits_jax.run.check_weights import WeightsError, check_fit
from exits_jax.run.from_config import generator_builder
from exits_jax.run.starting_weights import (
    check_files,
    file_generator,
    load_params,
    provenance,
    with_encoder,
)
from exits_jax.run.workdir import Workdir
from tests.support import toy


@pytest.fixture(scope="module")
def exported(whole_run, tmp_path_factory):
    """Generator of a finished run, under our names."""
    out = tmp_path_factory.mktemp("weights") / "generator.safetensors"
    assert convert([str(whole_run), f"--out={out}", "--licence=MIT"]) == 0
    return out


def trained(workdir, which="params"):
    config = mlc.ConfigDict(json.loads((workdir / "config.json").read_text()))
    params = load_params(
        config, Workdir(workdir), "train", role="generator", which=which
    )
    return config, params


def test_file_holds_what_the_run_trained(whole_run, exported):
    _, params = trained(whole_run)
    written = load_file(exported)
    expected = flatten(params)
    assert written.keys() == expected.keys()
    for name, value in written.items():
        np.testing.assert_array_equal(value, np.asarray(expected[name]))


def test_teacher_is_written_when_asked_for(whole_run, exported, tmp_path):
    out = tmp_path / "teacher.safetensors"
    assert convert([str(whole_run), "--weights=teacher", f"--out={out}"]) == 0
    _, teacher = trained(whole_run, "teacher")
    name = "decoder/prototype_head/output/bias"
    np.testing.assert_array_equal(load_file(out)[name], flatten(teacher)[name])
    assert not np.array_equal(load_file(out)[name], load_file(exported)[name])


def test_metadata_names_the_run_and_what_a_reader_needs(whole_run, exported):
    with safe_open(exported, "numpy") as file:
        metadata = file.metadata()
    assert metadata["contents"] == "generator"
    assert metadata["source"] == f"{whole_run.name} (a run)"
    assert metadata["init_weights"] == "random"
    assert (metadata["heads"], metadata["licence"]) == ("2", "MIT")


def test_a_run_from_before_a_field_was_there_is_read_with_its_default(
    whole_run, exported, tmp_path
):
    older = shutil.copytree(whole_run, tmp_path / "older")
    config = json.loads((older / "config.json").read_text())
    del config["prompt"]
    (older / "config.json").write_text(json.dumps(config))
    out = tmp_path / "older.safetensors"
    assert convert([str(older), f"--out={out}"]) == 0
    name = "decoder/prototype_head/output/bias"
    np.testing.assert_array_equal(load_file(out)[name], load_file(exported)[name])


def test_run_that_is_not_finished_is_refused(whole_run, tmp_path, capsys):
    (tmp_path / "run" / "phases").mkdir(parents=True)
    config = (whole_run / "config.json").read_text()
    (tmp_path / "run" / "config.json").write_text(config)
    out = tmp_path / "out.safetensors"
    assert convert([str(tmp_path / "run"), f"--out={out}"]) == 3
    assert "the phase train is not finished" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.torch
def test_trained_generator_makes_the_same_masks_in_pytorch(whole_run, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    out = tmp_path / "torch.safetensors"
    assert convert([str(whole_run), "--to=torch-generator", f"--out={out}"]) == 0
    from convert_weights import torch_generator

    config, params = trained(whole_run)
    side = config.crop.size
    crops = np.random.default_rng(0).uniform(size=(2, side, side, 3))
    crops = crops.astype(np.float32)
    area = np.array([500.0, 20000.0], np.float32)
    mean, std = np.float32(config.init.image_mean), np.float32(config.init.image_std)
    graph = abstract_graph(generator_builder(config, role="generator"))
    run = jax.jit(lambda params, image, area: bind(graph, params)(image, area))
    logits = run(params, jnp.asarray((crops - mean) / std), jnp.asarray(area))
    expected = jax.nn.sigmoid(logits)

    model = torch_generator.load(str(out))
    assert (model.crop_size, model.threshold) == (side, config.generate.threshold)
    image = torch.from_numpy(crops.transpose(0, 3, 1, 2).copy())
    actual = torch.sigmoid(model(image, torch.from_numpy(area))).numpy()
    assert np.abs(actual - np.asarray(expected)).max() < 1e-4


def test_another_run_starts_from_the_file_and_says_so(dataset, exported, tmp_path):
    config = toy.config_for(dataset, tmp_path / "run", train__steps=1)
    config.init.generator = str(exported)
    config.train.lr = 1e-12
    assert main.run(config) == exit_status.OK
    record = json.loads((tmp_path / "run" / "phases" / "train.json").read_text())
    init = record["facts"]["init"]
    assert init["init_generator"] == str(exported)
    assert init["init_generator_licence"] == "MIT"
    assert len(init["init_generator_sha256"]) == 64
    masks = json.loads((tmp_path / "run" / "pseudo_masks.json").read_text())
    assert init.items() <= masks["info"]["exits_jax"].items()
    name = "encoder/blocks/0/mlp/hidden/kernel"
    after = flatten(trained(tmp_path / "run")[1])[name]
    np.testing.assert_allclose(after, load_file(exported)[name], atol=1e-6)


def test_digest_and_licence_of_an_encoder_are_found(tmp_path):
    config = toy.config_for(tmp_path, tmp_path / "run")
    config.init.encoder = str(tmp_path / "w.safetensors")
    metadata = {"source_sha256": "ab" * 32, "licence": "CC-BY-NC-4.0"}
    save_file({"x": np.ones(1)}, config.init.encoder, metadata)
    assert provenance(config) == {
        "init_weights": config.init.encoder,
        "init_sha256": "ab" * 32,
        "init_licence": "CC-BY-NC-4.0",
    }


def test_other_image_statistics_than_those_of_the_file_are_warned_about(
    tmp_path, caplog
):
    config = toy.config_for(tmp_path, tmp_path / "run", pretrain__enabled=True)
    config.init.generator_from = "pretrain"  # no model starts from the file
    config.init.encoder = str(tmp_path / "w.safetensors")
    arrays = {"position_table": np.ones((4, 8))}
    save_file(arrays, config.init.encoder, {"image_mean": "[0.5, 0.5, 0.5]"})
    check_files(config)
    assert "trained with image_mean [0.5, 0.5, 0.5], init.image_mean is" in caplog.text


def test_generator_of_another_size_is_refused(dataset, exported, tmp_path):
    config = toy.config_for(dataset, tmp_path / "run", model__dim=32)
    config.init.generator = str(exported)
    with pytest.raises(WeightsError) as said:
        file_generator(config)
    lines = str(said.value).splitlines()
    assert lines[0] == (
        f"{exported} holds an encoder (16 wide, 2 blocks), the model is an encoder (32 "
        "wide, 2 blocks). Use --config.model.dim=16 --config.model.depth=2 "
        "--config.model.heads=2"
    )
    assert re.fullmatch(r"\d+ parameters of .* do not fit the model:", lines[1])
    assert [line.startswith("  ") for line in lines[2:]] == [True] * 6
    assert re.fullmatch(r"  and \d+ more", lines[-1])


def encoder_of(size, **changes):
    """An encoder's shapes, as `with_encoder` is given them."""
    config = vit_config(size, **changes)
    build = lambda rngs: VisionTransformer(config, rngs=rngs)
    return jax.eval_shape(lambda: init_params(build, jax.random.key(0)))


def test_weights_of_another_size_say_first_what_to_set():
    with pytest.raises(WeightsError) as said:
        check_fit(encoder_of("tiny"), encoder_of("base"), name="w.safetensors")
    first, second, *listed = str(said.value).splitlines()
    assert first == (
        "w.safetensors holds a ViT-Tiny (192 wide, 12 blocks), the model is a ViT-Base "
        "(768 wide, 12 blocks). Use --config.model.size=tiny, or --config=custom:cpu, "
        "which has a ViT-Tiny and crops of 224 px."
    )
    assert second == "150 parameters of w.safetensors do not fit the model:"
    assert len(listed) == 6 and listed[-1] == "  and 145 more"


def test_fewer_blocks_are_answered_by_width_depth_and_heads():
    with pytest.raises(WeightsError, match=r"depth=6 --config\.model\.heads=HEADS"):
        check_fit(encoder_of("tiny", depth=6), encoder_of("tiny"), name="w")


def test_a_file_without_class_token_says_so():
    bare = encoder_of("tiny", class_token=False)
    with pytest.raises(WeightsError, match="^Set model.class_token=False"):
        check_fit(bare, encoder_of("tiny"), name="w")


def test_other_features_of_the_decoder_say_what_to_set(dataset, exported, tmp_path):
    config = toy.config_for(dataset, tmp_path / "run", decoder__features=24)
    config.init.generator = str(exported)
    with pytest.raises(
        WeightsError, match=r"^Set decoder.features=\d+, as in the file"
    ):
        file_generator(config)


def test_weights_of_another_size_are_refused_before_anything_is_prepared(
    dataset, tmp_path, capsys
):
    config = toy.config_for(dataset, tmp_path / "run")
    config.init.encoder = str(tmp_path / "w.safetensors")
    save_file({"position_table": np.ones((4, 8))}, config.init.encoder)
    assert main.run(config) == exit_status.BAD_INPUT
    assert "w.safetensors do not fit the model" in capsys.readouterr().err
    assert not (tmp_path / "run" / "annotations").exists()


def test_other_attention_heads_than_those_of_the_file_are_refused(
    dataset, exported, tmp_path
):
    config = toy.config_for(dataset, tmp_path / "run", model__heads=4)
    config.init.encoder = str(exported)
    with pytest.raises(WeightsError, match="was trained with 2 .* has 4. Use --config"):
        check_files(config)


def test_other_grid_and_patch_size_say_what_to_do():
    sizes = lambda patch, rows: {
        "patch_embedding": {"kernel": jnp.zeros((patch, patch, 3, 2))},
        "position_table": jnp.zeros((rows, 2)),
    }
    with pytest.raises(WeightsError) as said:
        with_encoder({"encoder": sizes(8, 145)}, sizes(16, 197), stem="patch", name="w")
    message = str(said.value)
    assert (
        "patch_embedding/kernel: expected (8, 8, 3, 2), got (16, 16, 3, 2)" in message
    )
    assert "Set model.patch_size=16, as in the file, or convert it again" in message
    assert "Set model.position_grid=14, as in the file, or convert it again" in message
    assert "--grid=12.\n" in message


def test_encoder_is_no_generator(dataset, tmp_path):
    config = toy.config_for(dataset, tmp_path / "run")
    config.init.generator = str(tmp_path / "w.safetensors")
    save_file({"position_table": np.ones((4, 8))}, config.init.generator)
    with pytest.raises(WeightsError, match="does not hold a generator"):
        file_generator(config)


def test_missing_file_names_the_public_one_and_the_command(dataset, tmp_path):
    config = toy.config_for(dataset, tmp_path / "run")
    config.init.generator = str(tmp_path / "dino_vit_base.safetensors")
    with pytest.raises(FileNotFoundError, match="dino_vitbase16_pretrain.pth") as said:
        file_generator(config)
    assert "python -m convert_weights SOURCE --out=" in str(said.value)


def test_stem_of_the_file_is_kept_where_it_has_one():
    zeros = lambda: {"kernel": jnp.zeros(1)}
    own = {"convs": {"0": zeros()}}
    params = {"encoder": {"patch_embedding": own}}
    encoder = {"patch_embedding": {"convs": {"0": {"kernel": jnp.ones(1)}}}}
    found = with_encoder(params, encoder, stem="conv", name="w")
    kernel = found["encoder"]["patch_embedding"]["convs"]["0"]["kernel"]
    assert kernel[0] == 1
