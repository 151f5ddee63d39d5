"""The command line: what it writes, prints and refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import exits_jax
from convert_weights.__main__ import main
from convert_weights.convert import convert
from convert_weights.rules import KINDS
from convert_weights.sources import digest
from exits_jax.models import weights
from exits_jax.models.vit import VisionTransformer, VitConfig
from tests.support import checkpoints
from tests.support.checkpoints import timm as checkpoint

REAL = (
    Path(os.environ.get("EXITS_DATA", "/nonexistent")).parent
    / "weights/vit_tiny_patch16_224_distilled.safetensors"
)
needs_real_weights = pytest.mark.skipif(
    "EXITS_DATA" not in os.environ or not REAL.exists(),
    reason="needs EXITS_DATA and vit_tiny_patch16_224_distilled.safetensors beside it",
)


@pytest.fixture
def source(tmp_path):
    save_file(checkpoint(), tmp_path / "source.safetensors")
    return tmp_path / "source.safetensors"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "weights" / "out.safetensors"


def run(*args):
    return main([str(arg) for arg in args])


def model_shapes(config):
    build = lambda: VisionTransformer(config, rngs=nnx.Rngs(0))
    state = nnx.to_pure_dict(nnx.state(nnx.eval_shape(build)))
    return {
        "/".join(str(key.key) for key in path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }


def test_names_and_shapes_are_those_of_the_module(source, out):
    assert run(source, f"--out={out}") == 0
    config = VitConfig(dim=8, depth=2, heads=2, patch_size=4, position_grid=3)
    written = {name: value.shape for name, value in load_file(out).items()}
    assert written == model_shapes(config)


def test_written_values_are_the_converted_ones(source, out):
    run(source, f"--out={out}")
    expected = convert(checkpoint(), KINDS["timm"]).params
    for name, value in load_file(out).items():
        np.testing.assert_array_equal(value, expected[name])


def test_the_package_reads_what_was_written(source, out):
    run(source, f"--out={out}")
    params, _ = weights.read_encoder(out)
    assert params["blocks"]["1"]["attention"]["qkv"]["kernel"].shape == (8, 24)


def test_metadata_says_where_the_weights_come_from(source, out):
    run(source, f"--out={out}", "--licence=MIT", "--image-mean=0.5,0.5,0.5")
    with safe_open(out, "numpy") as file:
        metadata = file.metadata()
    assert metadata == {
        "format": "exits_jax",
        "exits_jax_version": exits_jax.__version__,
        "source": "source.safetensors",
        "source_sha256": digest(source),
        "kind": "timm",
        "architecture": "vit_width8_depth2_patch4",
        "width": "8",
        "depth": "2",
        "patch_size": "4",
        "mlp_width": "32",
        "grid": "3",
        "contents": "encoder",
        "image_mean": "[0.5, 0.5, 0.5]",
        "image_std": json.dumps([0.229, 0.224, 0.225]),
        "licence": "MIT",
    }


def test_same_source_gives_the_same_bytes(source, tmp_path):
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    run(source, f"--out={first}")
    run(source, f"--out={second}")
    assert first.read_bytes() == second.read_bytes()


def test_only_the_output_is_left_in_its_folder(source, out):
    run(source, f"--out={out}")
    assert os.listdir(out.parent) == ["out.safetensors"]


def test_digests_of_both_files_are_printed(source, out, capsys):
    run(source, f"--out={out}")
    printed = capsys.readouterr().out
    assert digest(source) in printed and digest(out) in printed


def test_dry_run_writes_nothing(source, out, capsys):
    assert run(source, f"--out={out}", "--dry-run") == 0
    assert "dry run: nothing written" in capsys.readouterr().out
    assert not out.parent.exists()


def test_dry_run_prints_what_goes_where(tmp_path, capsys):
    tensors = checkpoint() | {"head.bias": np.ones(3, np.float32)}
    save_file(tensors, tmp_path / "x.safetensors")
    assert run(tmp_path / "x.safetensors", "--dry-run") == 0
    printed = capsys.readouterr().out
    assert (
        "  blocks.1.mlp.fc1.weight (32, 8) -> blocks/1/mlp/hidden/kernel (8, 32)\n"
        in printed
    )
    assert "  head.bias (3,) -> dropped\n" in printed


def test_dry_run_prints_what_query_key_and_value_become(tmp_path, capsys):
    save_file(checkpoints.hugging_face(checkpoint()), tmp_path / "x.safetensors")
    assert run(tmp_path / "x.safetensors", "--dry-run") == 0
    name = "encoder.layer.0.attention.attention."
    expected = f"{name}key.bias, {name}query.bias, {name}value.bias (8,) -> blocks/0/"
    assert expected in capsys.readouterr().out


def test_inspect_of_a_converted_file_shows_its_metadata(source, out, capsys):
    run(source, f"--out={out}", "--licence=MIT")
    capsys.readouterr()
    assert run(out, "--inspect") == 0
    printed = capsys.readouterr().out
    assert "kind exits_jax" in printed and "  licence: MIT" in printed
    assert "vit_width8_depth2_patch4: 2 blocks of width 8, positions 3x3" in printed


def test_inspect_of_what_does_not_fit_says_why(tmp_path, capsys):
    save_file(checkpoint() | {"extra": np.ones(2)}, tmp_path / "x.safetensors")
    assert run(tmp_path / "x.safetensors", "--inspect") == 0
    assert "no rule for extra (2,)" in capsys.readouterr().out


def test_positions_and_patches_are_resampled_when_asked_for(source, out, capsys):
    assert run(source, f"--out={out}", "--grid=5", "--patch-size=8") == 0
    printed = capsys.readouterr().out
    assert "position_table: interpolated from 3x3 to 5x5 patches" in printed
    assert "patch_embedding/kernel: resampled from 4 px to 8 px patches" in printed
    config = VitConfig(dim=8, depth=2, heads=2, patch_size=8, position_grid=5)
    written = {name: value.shape for name, value in load_file(out).items()}
    assert written == model_shapes(config)
    with safe_open(out, "numpy") as file:
        metadata = file.metadata()
    assert (metadata["grid"], metadata["patch_size"]) == ("5", "8")


def test_stem_that_cannot_be_resampled_is_a_usage_error(tmp_path, out, capsys):
    backbone = checkpoints.conv_stem(checkpoint())
    tensors = checkpoints.mask_auto_labeler(backbone, checkpoints.decoder())
    save_file(tensors, tmp_path / "x.safetensors")
    assert run(tmp_path / "x.safetensors", f"--out={out}", "--patch-size=8") == 2
    assert "a convolutional stem cannot be resampled" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("value", ["0", "-3", "x", "1.5", "9999"])
def test_grid_is_a_number_of_patches(source, out, capsys, value):
    with pytest.raises(SystemExit, match="2"):
        run(source, f"--out={out}", f"--grid={value}")
    assert "expected a number from 1 to 512" in capsys.readouterr().err


def test_google_files_have_statistics_of_one_half(tmp_path, out):
    np.savez(tmp_path / "x.npz", **checkpoints.npz(checkpoint()))
    assert run(tmp_path / "x.npz", f"--out={out}") == 0
    with safe_open(out, "numpy") as file:
        assert file.metadata()["image_mean"] == "[0.5, 0.5, 0.5]"


def test_baseline_checkpoint_becomes_a_file_of_a_generator(tmp_path, out):
    tensors = checkpoints.mask_auto_labeler(checkpoint(), checkpoints.decoder())
    save_file(tensors, tmp_path / "x.safetensors")
    assert run(tmp_path / "x.safetensors", f"--out={out}") == 0
    tree, metadata = weights.read_generator(out)
    assert tree["decoder"]["pixel_head"]["convs"]["0"]["kernel"].shape == (3, 3, 8, 6)
    assert metadata["contents"] == "generator"
    assert metadata["position_offset"] == "0.1"


def test_encoder_is_read_out_of_a_file_of_a_generator(tmp_path, out):
    tensors = checkpoints.mask_auto_labeler(checkpoint(), checkpoints.decoder())
    save_file(tensors, tmp_path / "x.safetensors")
    run(tmp_path / "x.safetensors", f"--out={out}")
    assert "position_table" in weights.read_encoder(out)[0]


def test_kind_given_by_hand_is_used(tmp_path, out):
    tensors = checkpoints.mask_auto_labeler(checkpoint(), checkpoints.decoder())
    save_file(tensors, tmp_path / "x.safetensors")
    run(tmp_path / "x.safetensors", f"--out={out}", "--kind=mal_teacher")
    token = load_file(out)["encoder/class_token"]
    np.testing.assert_array_equal(token, -checkpoint()["cls_token"])


def test_inspect_lists_the_tensors_and_needs_no_output(source, capsys):
    assert run(source, "--inspect") == 0
    printed = capsys.readouterr().out
    assert "kind timm (told from the names)" in printed
    assert "  patch_embed.proj.weight (8, 3, 4, 4) float32" in printed


def test_misfits_are_all_printed_and_nothing_is_written(tmp_path, out, capsys):
    tensors = checkpoint() | {"extra": np.ones(2), "norm.bias": np.full(8, np.nan)}
    save_file(tensors, tmp_path / "x.safetensors")
    assert run(tmp_path / "x.safetensors", f"--out={out}") == 3
    error = capsys.readouterr().err
    assert "2 problems with 31 tensors" in error
    assert "no rule for extra (2,)" in error
    assert "8 of 8 values are NaN or infinite" in error
    assert not out.parent.exists()


def test_failed_conversion_leaves_an_older_output_alone(tmp_path, out):
    save_file({"cls_token": np.ones(2)}, tmp_path / "x.safetensors")
    out.parent.mkdir()
    out.write_bytes(b"older")
    assert run(tmp_path / "x.safetensors", f"--out={out}", "--kind=timm") == 3
    assert out.read_bytes() == b"older"


def test_names_of_no_kind_list_the_kinds(tmp_path, out, capsys):
    save_file({"layer1.conv.weight": np.ones(2)}, tmp_path / "x.safetensors")
    assert run(tmp_path / "x.safetensors", f"--out={out}") == 3
    error = capsys.readouterr().err
    assert f"Known kinds: {', '.join(KINDS)}." in error
    assert not out.exists()


def test_unknown_kind_on_the_command_line_lists_the_kinds(source, out, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(source, f"--out={out}", "--kind=resnet")
    error = capsys.readouterr().err
    assert all(kind in error for kind in ("'resnet'", *KINDS))
    assert not out.exists()


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("x.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        ("x.pth", b"<html>", "an HTML page"),
        ("x.safetensors", b"\x10", "cut short"),
        ("gone.pth", None, "no such file"),
    ],
)
def test_bad_source_is_one_line_and_status_3(
    tmp_path, out, capsys, name, content, words
):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert run(tmp_path / name, f"--out={out}") == 3
    error = capsys.readouterr().err
    assert words in error and name in error
    assert error.count("\n") == 1
    assert not out.parent.exists()


@pytest.mark.parametrize(
    "name, words",
    [
        ("a_file/out.safetensors", "is a file, expected a folder"),
        ("a_file/below/out.safetensors", "is a file, expected a folder"),
        ("folder.safetensors", "is a folder, expected a file name"),
        ("out.npz", "expected a name that ends in .safetensors"),
        ("source.safetensors", "is the source itself"),
    ],
)
def test_output_that_cannot_be_written_is_refused(
    source, tmp_path, capsys, name, words
):
    (tmp_path / "a_file").write_bytes(b"")
    (tmp_path / "folder.safetensors").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert run(source, f"--out={tmp_path / name}") == 2
    assert words in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_full_disk_leaves_no_file(source, out, capsys, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert run(source, f"--out={out}") == 2
    assert f"--out={out}: No space left on device" in capsys.readouterr().err
    assert os.listdir(out.parent) == []


@pytest.mark.parametrize("value", ["0.5", "0.5,0.5,x", "127,127,127"])
def test_image_mean_is_three_numbers_up_to_one(source, out, capsys, value):
    with pytest.raises(SystemExit, match="2"):
        run(source, f"--out={out}", f"--image-mean={value}")
    assert "expected three numbers in (0, 1]" in capsys.readouterr().err


def test_output_is_needed_unless_nothing_is_written(source, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(source)
    assert "--out=FILE.safetensors is needed" in capsys.readouterr().err


def test_help_imports_neither_jax_nor_torch():
    code = (
        "import sys, contextlib\n"
        "from convert_weights.__main__ import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\n"
        "print(sorted({'jax', 'flax', 'torch'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "--licence" in done.stdout
    assert done.stdout.endswith("[]\n")


@needs_real_weights
def test_real_vit_tiny_fits_the_module(out):
    assert run(REAL, f"--out={out}") == 0
    config = VitConfig(dim=192, depth=12, heads=3)
    written = {name: value.shape for name, value in load_file(out).items()}
    assert written == model_shapes(config)
