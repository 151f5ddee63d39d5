"""Other grids and patch sizes."""

import numpy as np
import pytest

from convert_weights.convert import convert
from convert_weights.resize import resize_patches, resize_positions
from convert_weights.rules import KINDS
from exits_jax.ops.resize import bicubic_matrix
from tests.support import checkpoints

PARAMS = convert(checkpoints.timm(grid=4), KINDS["timm"]).params


def test_class_row_stays_as_it_is():
    resized, _ = resize_positions(PARAMS, 7)
    table = resized["position_table"]
    assert table.shape == (50, 8)
    np.testing.assert_array_equal(table[0], PARAMS["position_table"][0])


def test_same_grid_changes_nothing():
    resized, said = resize_positions(PARAMS, 4)
    assert resized is PARAMS and "already" in said


def test_what_was_done_is_said():
    assert "from 4x4 to 7x7" in resize_positions(PARAMS, 7)[1]
    assert "from 4 px to 8 px" in resize_patches(PARAMS, 8)[1]


@pytest.mark.torch
def test_positions_are_those_of_bicubic_interpolation_in_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    cells = torch.from_numpy(PARAMS["position_table"][1:].T.reshape(1, 8, 4, 4).copy())
    expected = torch.nn.functional.interpolate(cells, size=(7, 7), mode="bicubic")
    table = resize_positions(PARAMS, 7)[0]["position_table"][1:]
    expected = expected[0].reshape(8, 49).T.numpy()
    np.testing.assert_allclose(table, expected, rtol=1e-5, atol=1e-6)


def test_enlarged_patch_has_the_embedding_of_the_patch():
    patch = np.random.default_rng(0).normal(size=(4, 4, 3))
    enlarge = bicubic_matrix(4, 8)
    enlarged = np.einsum("ij,kl,jlc->ikc", enlarge, enlarge, patch)
    kernel = resize_patches(PARAMS, 8)[0]["patch_embedding/kernel"]
    assert kernel.shape == (8, 8, 3, 8)
    np.testing.assert_allclose(
        np.einsum("ijc,ijcd->d", enlarged, kernel),
        np.einsum("ijc,ijcd->d", patch, PARAMS["patch_embedding/kernel"]),
        atol=1e-4,
    )


def test_patch_kernel_of_a_generator_is_found():
    tensors = checkpoints.mask_auto_labeler(checkpoints.timm(), checkpoints.decoder())
    params = convert(tensors, KINDS["mal"]).params
    resized = resize_patches(params, 2)[0]
    assert resized["encoder/patch_embedding/kernel"].shape == (2, 2, 3, 8)


def test_conv_stem_cannot_be_resampled():
    backbone = checkpoints.conv_stem(checkpoints.timm())
    tensors = checkpoints.mask_auto_labeler(backbone, checkpoints.decoder())
    with pytest.raises(ValueError, match="a convolutional stem cannot be resampled"):
        resize_patches(convert(tensors, KINDS["mal"]).params, 8)
