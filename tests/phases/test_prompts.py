"""A generator that sees the clicks, through the phases and out of a run."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from convert_weights.__main__ import main as convert
from exits_jax import exit_status, main
from exits_jax.data.batches import label_batches
from exits_jax.labeling.label import Models, logits_of
from exits_jax.models.weights import flatten
from exits_jax.run.check_weights import WeightsError
from exits_jax.run.from_config import crop_options, generator_builder
from exits_jax.run.prepared import instances
from exits_jax.run.starting_weights import (
    file_generator,
    load_params,
    random_params,
    with_prompt,
)
from exits_jax.run.workdir import Workdir
from exits_jax.train.sharding import host_copy, make_mesh, replicate
from tests.support import toy

KERNEL = "['prompt']['embedding']['linear']['kernel']"
ENABLED = {"prompt.enabled": True, "prompt.walk": False}


@pytest.fixture(scope="module")
def config(dataset, tmp_path_factory):
    """Of a run whose generator starts from the warm-up, which knows no prompts."""
    config = toy.config_for(
        dataset,
        tmp_path_factory.mktemp("prompts") / "run",
        init__generator_from="warmup",
        train__start_steps=2,
        train__steps=4,
        train__lr=1e-2,
        generate__flip=True,
        **ENABLED,
    )
    assert main.run(config) == exit_status.OK
    return config


@pytest.fixture
def workdir(config):
    return Path(config.workdir)


@pytest.fixture(scope="module")
def exported(config):
    out = f"{config.workdir}/generator.safetensors"
    assert convert([config.workdir, f"--out={out}"]) == 0
    return out


def test_student_and_teacher_learn_to_read_the_clicks(workdir):
    trained = toy.checkpoint(workdir, "train")
    for item in ("params", "teacher"):
        assert np.isfinite(trained[item + KERNEL]).all()
        assert np.any(trained[item + KERNEL] != 0)


def test_a_start_by_boxes_alone_leaves_the_prompts_untouched(workdir):
    started = toy.checkpoint(workdir, "start")
    assert not started["params" + KERNEL].any()


def test_the_extractor_sees_no_clicks(workdir):
    names = toy.checkpoint(workdir, "warmup")
    assert names and not any("prompt" in name for name in names)


def test_the_log_says_that_the_warm_up_knows_no_prompts(workdir):
    assert "the warm-up knows no prompts" in (workdir / "log.txt").read_text()


def test_every_object_has_a_mask_or_a_reason(workdir):
    read = lambda name: json.loads((workdir / name).read_text())
    labeled = read("pseudo_masks.json")["annotations"] + read("skipped.json")
    assert len(labeled) == 16


def test_masks_come_from_the_clicks_too(config):
    """The same checkpoint, with clicks elsewhere, gives other logits."""
    folder = Workdir(config.workdir)
    mesh = make_mesh(devices=jax.local_devices()[:1])
    params = host_copy(load_params(config, folder, "train", role="generator"))
    predict = logits_of(config, mesh, Models([replicate(mesh, params)]))
    objects = instances(config, folder, "train")
    rows = next(iter(label_batches(objects, crop_options(config), batch=4)))
    rows = {name: rows[name] for name in rows if name not in ("index", "window")}
    elsewhere = rows | {"extreme_points": rows["extreme_points"] * 0.7}
    assert np.any(np.asarray(predict(rows)) != np.asarray(predict(elsewhere)))


def test_an_export_under_our_names_keeps_the_prompts(config, exported):
    written = load_file(exported)
    assert written["prompt/skip/linear/kernel"].shape == (7, 1)
    with safe_open(exported, "numpy") as file:
        said = json.loads(file.metadata()["prompt"])
    assert said == {"walk": False, "sigma": config.prompt.sigma}
    found = flatten(file_generator(_starting_from(config, exported)))
    assert found.keys() == written.keys()
    for name, value in written.items():
        np.testing.assert_array_equal(found[name], value)


def test_an_export_to_pytorch_comes_back_bit_for_bit(config, exported, tmp_path):
    there, back = tmp_path / "torch.safetensors", tmp_path / "back.safetensors"
    assert convert([config.workdir, "--to=torch-generator", f"--out={there}"]) == 0
    assert convert([str(there), f"--out={back}"]) == 0
    written, found = load_file(exported), load_file(back)
    assert written.keys() == found.keys()
    for name, value in written.items():
        np.testing.assert_array_equal(found[name], value)
    kept = ("prompt", "inference", "crop_size", "heads", "licence", "source_sha256")
    of = lambda path: safe_open(path, framework="numpy").metadata()
    assert [of(back)[name] for name in kept] == [of(exported)[name] for name in kept]


def test_an_export_of_the_encoder_says_what_it_lacks(config, tmp_path, capsys):
    out = tmp_path / "timm.safetensors"
    assert convert([config.workdir, "--to=timm", f"--out={out}"]) == 0
    assert "the clicks added to its patches" in capsys.readouterr().out
    assert not any("prompt" in name for name in load_file(out))


def _starting_from(config, path, **changes):
    config = config.copy_and_resolve_references()
    config.init.generator = str(path)
    config.update_from_flattened_dict(changes)
    return config


def test_a_generator_without_prompts_starts_them_at_zero(
    config, exported, tmp_path, caplog
):
    path = tmp_path / "plain.safetensors"
    plain = load_file(exported)
    plain = {name: plain[name] for name in plain if not name.startswith("prompt/")}
    save_file(plain, path)
    with caplog.at_level("INFO", "exits_jax"):
        found = flatten(file_generator(_starting_from(config, path)))
    assert "plain.safetensors knows no prompts: their weights start" in caplog.text
    added = found.keys() - plain.keys()
    assert {"prompt/skip/linear/kernel", "prompt/embedding/linear/bias"} <= added
    assert not any(np.any(found[name]) for name in added)


def test_a_generator_with_prompts_needs_them_enabled(config, exported):
    other = _starting_from(config, exported, **{"prompt.enabled": False})
    with pytest.raises(WeightsError, match="Set prompt.enabled=True"):
        file_generator(other)


def test_parameters_are_as_they_were_where_no_prompt_is_wanted(config):
    plain = _starting_from(config, "", **{"prompt.enabled": False})
    params = random_params(plain, generator_builder(plain, role="generator"), salt=2)
    assert with_prompt(params, params, name="it") is params
    told = random_params(config, generator_builder(config, role="generator"), salt=2)
    del told["prompt"]
    jax.tree.map(np.testing.assert_array_equal, told, params)


def test_the_walk_is_missed_before_anything_is_read(dataset, tmp_path, capsys):
    changes = ENABLED | {"prompt.walk": True}
    config = toy.config_for(dataset, tmp_path / "run", **changes)
    assert main.run(config) == exit_status.USAGE
    assert "set labels.stored=True, or prompt.walk=False" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
