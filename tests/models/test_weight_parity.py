"""Converted encoders against timm and transformers themselves, layer by layer."""

import importlib.util
import os
from functools import partial
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
for package in ("timm", "transformers"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed", allow_module_level=True)

from benchmarks.plain_torch.timm_alone import import_timm  # noqa: E402
from benchmarks.weight_parity import (  # noqa: E402
    SOURCES,
    compare,
    parity,
    run_timm,
    run_transformers,
)

pytestmark = pytest.mark.torch

REAL = (
    Path(os.environ.get("EXITS_DATA", "/nonexistent")).parent
    / "weights/vit_tiny_patch16_224_distilled.safetensors"
)
RTOL = 1e-5  # of the largest entry, float32
LIGHT = [(source, "tiny", 224) for source in SOURCES] + [
    ("timm vit", "small", 224),
    ("transformers ViT", "small", 224),
]
HEAVY = [
    ("timm deit distilled", "tiny", 512),
    ("transformers ViTMAE", "tiny", 512),
    ("transformers ViT", "small", 512),
    ("timm deit distilled", "base", 224),
    ("transformers ViTMAE", "base", 224),
    ("timm vit", "base", 512),
]  # python -m benchmarks.weight_parity has every combination


@pytest.mark.parametrize("source, size, pixels", LIGHT)
def test_every_layer_agrees(source, size, pixels):
    errors = parity(source, size, pixels)
    assert max(errors) < RTOL, errors


@pytest.mark.slow
@pytest.mark.parametrize("source, size, pixels", HEAVY)
def test_every_layer_agrees_for_other_sizes(source, size, pixels):
    errors = parity(source, size, pixels)
    assert max(errors) < RTOL, errors


def test_import_of_timm_leaves_no_torchvision_behind():
    import_timm()
    if importlib.util.find_spec("torchvision") is None:
        with pytest.raises(ImportError):
            importlib.import_module("torchvision")


@pytest.mark.skipif(
    "EXITS_DATA" not in os.environ or not REAL.exists(),
    reason=f"needs EXITS_DATA and {REAL.name} beside it",
)
def test_real_vit_tiny_has_the_features_that_timm_gives_it():
    from safetensors.torch import load_file

    model = import_timm().create_model("vit_tiny_patch16_224", num_classes=0).eval()
    model.load_state_dict(load_file(REAL))
    errors = compare(REAL, partial(run_timm, model), "tiny", 224)
    assert max(errors) < RTOL, errors


def test_exported_folder_is_read_by_transformers_and_gives_the_same(tmp_path):
    import transformers

    from convert_weights.__main__ import main

    transformers.utils.logging.disable_progress_bar()
    save, _ = SOURCES["timm vit"]("tiny", 224)
    source = save(tmp_path)
    assert main([str(source), "--to=hf", f"--out={tmp_path / 'hf'}"]) == 0
    model, said = transformers.ViTModel.from_pretrained(
        tmp_path / "hf", add_pooling_layer=False, output_loading_info=True
    )
    assert not said["missing_keys"] and not said["unexpected_keys"]
    run = partial(run_transformers, model.eval())
    errors = compare(source, run, "tiny", 224)
    assert max(errors) < RTOL, errors
