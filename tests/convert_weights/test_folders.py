"""Folders of Hugging Face: which files, which facts, which contradictions."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from convert_weights.__main__ import main
from convert_weights.sources import SourceError, digest, files_of, read_source
from tests.support import checkpoints

CONFIG = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "patch_size": 4,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "qkv_bias": True,
}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "vit"
    path.mkdir()
    tensors = checkpoints.hugging_face(checkpoints.timm())
    save_file(tensors, path / "model.safetensors")
    write(path, "config.json", CONFIG)
    return path


def write(path, name, content):
    (path / name).write_text(json.dumps(content))


def run(*args):
    return main([str(arg) for arg in args])


def metadata_of(path):
    with safe_open(path, "numpy") as file:
        return file.metadata()


def test_folder_is_converted_with_its_facts(folder, tmp_path):
    pictures = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.4, 0.4, 0.4]}
    write(folder, "preprocessor_config.json", pictures)
    assert run(folder, f"--out={tmp_path}/out.safetensors") == 0
    metadata = metadata_of(tmp_path / "out.safetensors")
    assert metadata["kind"] == "hf_vit"
    assert metadata["heads"] == "2"
    assert metadata["image_mean"] == "[0.5, 0.5, 0.5]"
    assert metadata["image_std"] == "[0.4, 0.4, 0.4]"
    assert metadata["source_sha256"] == digest(folder / "model.safetensors")


def test_statistics_of_a_timm_folder_are_taken(tmp_path):
    save_file(checkpoints.timm(), tmp_path / "model.safetensors")
    pretrained = {"mean": [0.5] * 3, "std": [0.5] * 3, "license": "apache-2.0"}
    write(tmp_path, "config.json", {"pretrained_cfg": pretrained})
    assert run(tmp_path, f"--out={tmp_path}/out.safetensors") == 0
    metadata = metadata_of(tmp_path / "out.safetensors")
    assert metadata["image_mean"] == "[0.5, 0.5, 0.5]"
    assert metadata["licence"] == "apache-2.0"


def test_given_statistics_and_licence_win(folder, tmp_path):
    write(folder, "preprocessor_config.json", {"image_mean": [0.5] * 3})
    options = ("--image-mean=0.1,0.2,0.3", "--licence=MIT")
    run(folder, f"--out={tmp_path}/out.safetensors", *options)
    metadata = metadata_of(tmp_path / "out.safetensors")
    assert metadata["image_mean"] == "[0.1, 0.2, 0.3]"
    assert metadata["licence"] == "MIT"


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("patch_size", 16, "config.json says patch_size 16, the tensors have 4"),
        ("hidden_size", 9, "config.json says hidden_size 9, the tensors have 8"),
        ("hidden_act", "relu", "config.json says hidden_act relu, this package has"),
    ],
)
def test_config_that_contradicts_is_refused(
    folder, tmp_path, capsys, name, value, words
):
    write(folder, "config.json", CONFIG | {name: value})
    assert run(folder, f"--out={tmp_path}/out.safetensors") == 3
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out.safetensors").exists()


def test_another_epsilon_is_remarked(folder, tmp_path, capsys):
    write(folder, "config.json", CONFIG | {"layer_norm_eps": 1e-12})
    assert run(folder, f"--out={tmp_path}/out.safetensors") == 0
    assert "note: config.json says layer_norm_eps 1e-12" in capsys.readouterr().out


def test_shards_are_put_together(folder):
    tensors = read_source(folder)
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"a.safetensors": names[:9], "b.safetensors": names[9:]}
    for file, part in parts.items():
        save_file({name: np.array(tensors[name]) for name in part}, folder / file)
    index = {name: file for file, part in parts.items() for name in part}
    write(folder, "model.safetensors.index.json", {"weight_map": index})
    assert read_source(folder).keys() == tensors.keys()
    assert [file.name for file in files_of(folder)] == [
        "a.safetensors",
        "b.safetensors",
    ]


def test_missing_shard_is_named(tmp_path):
    index = {"weight_map": {"a": "one.safetensors"}}
    write(tmp_path, "model.safetensors.index.json", index)
    with pytest.raises(FileNotFoundError, match="one.safetensors: no such file, but"):
        read_source(tmp_path)


def test_index_cannot_point_out_of_its_folder(tmp_path):
    save_file({"a": np.ones(1)}, tmp_path / "secret.safetensors")
    (tmp_path / "vit").mkdir()
    index = {"weight_map": {"a": "../secret.safetensors"}}
    write(tmp_path / "vit", "model.safetensors.index.json", index)
    with pytest.raises(FileNotFoundError, match="secret.safetensors: no such file"):
        read_source(tmp_path / "vit")


def test_config_that_is_no_json_is_named(folder, tmp_path, capsys):
    (folder / "config.json").write_text("<html>")
    assert run(folder, f"--out={tmp_path}/out.safetensors") == 3
    assert "config.json: not JSON" in capsys.readouterr().err


def test_folder_without_weights_lists_what_it_may_hold(tmp_path):
    with pytest.raises(SourceError, match="folder with model.safetensors, "):
        read_source(tmp_path)
