"""The rules and what they refuse."""

import numpy as np
import pytest

from convert_weights.convert import ConversionError, convert
from convert_weights.rules import KINDS, detect_kind
from convert_weights.shapes import read_encoder
from tests.support.checkpoints import timm as checkpoint


def with_head(tensors):
    return tensors | {
        "head.weight": np.ones((5, 8), np.float32),
        "head.bias": np.ones(5, np.float32),
    }


def distilled():
    return with_head(checkpoint(extra_rows=2)) | {
        "dist_token": np.ones((1, 1, 8), np.float32),
        "head_dist.weight": np.ones((5, 8), np.float32),
        "head_dist.bias": np.ones(5, np.float32),
    }


def masked_autoencoder():
    return checkpoint() | {
        "mask_token": np.ones((1, 1, 6), np.float32),
        "decoder_embed.weight": np.ones((6, 8), np.float32),
        "decoder_blocks.0.attn.qkv.weight": np.ones((18, 6), np.float32),
        "decoder_pos_embed": np.ones((1, 10, 6), np.float32),
    }


def problems_of(tensors, kind="timm"):
    with pytest.raises(ConversionError) as caught:
        convert(tensors, KINDS[kind])
    return caught.value.problems


def test_linear_kernels_are_transposed():
    tensors = checkpoint()
    params = convert(tensors, KINDS["timm"]).params
    np.testing.assert_array_equal(
        params["blocks/1/attention/qkv/kernel"], tensors["blocks.1.attn.qkv.weight"].T
    )


def test_patch_kernel_becomes_height_width_in_out():
    tensors = checkpoint()
    kernel = convert(tensors, KINDS["timm"]).params["patch_embedding/kernel"]
    assert kernel[1, 2, 0, 5] == tensors["patch_embed.proj.weight"][5, 0, 1, 2]


def test_every_parameter_is_contiguous_float32():
    tensors = {name: x.astype(np.float64) for name, x in checkpoint().items()}
    params = convert(tensors, KINDS["timm"]).params
    assert all(x.dtype == np.float32 and x.flags.c_contiguous for x in params.values())


def test_position_table_keeps_the_class_row_first():
    tensors = checkpoint()
    table = convert(tensors, KINDS["timm"]).params["position_table"]
    np.testing.assert_array_equal(table, tensors["pos_embed"][0])


def test_distilled_position_table_loses_its_second_row():
    tensors = distilled()
    table = convert(tensors, KINDS["deit_distilled"]).params["position_table"]
    np.testing.assert_array_equal(table, tensors["pos_embed"][0, [0, *range(2, 11)]])


def test_distilled_heads_and_token_are_dropped_by_rule():
    assert convert(distilled(), KINDS["deit_distilled"]).dropped == [
        "dist_token",
        "head.bias",
        "head.weight",
        "head_dist.bias",
        "head_dist.weight",
    ]


def test_mae_decoder_is_dropped_by_rule():
    tensors = masked_autoencoder()
    assert len(convert(tensors, KINDS["mae"]).dropped) == len(tensors) - len(
        checkpoint()
    )


@pytest.mark.parametrize(
    "make, kind",
    [
        (checkpoint, "timm"),
        (lambda: with_head(checkpoint()), "timm"),
        (distilled, "deit_distilled"),
        (masked_autoencoder, "mae"),
        (lambda: {"layer1.conv.weight": 0}, None),
        (lambda: {"blocks.0.norm1.weight": 0}, None),
    ],
)
def test_kind_is_told_from_the_names(make, kind):
    assert detect_kind(make()) == kind


def test_sizes_are_read_off_the_tensors():
    params = convert(
        checkpoint(width=12, depth=3, patch=2, grid=4), KINDS["timm"]
    ).params
    encoder = read_encoder(params)
    assert encoder == (12, 3, 2, 48, 4, "patch", True)
    assert encoder.architecture == "vit_width12_depth3_patch2"


def test_all_problems_are_reported_together():
    tensors = checkpoint()
    tensors["patch_embed.proj.bias"] = np.ones(7, np.float32)
    tensors["blocks.0.ls1.gamma"] = np.ones(8, np.float32)
    del tensors["norm.weight"]
    tensors["norm.bias"][3] = np.nan
    assert problems_of(tensors) == [
        "no rule for blocks.0.ls1.gamma (8,)",
        "norm.bias -> norm/bias: 1 of 8 values are NaN or infinite",
        "patch_embed.proj.bias -> patch_embedding/bias: expected (8,), got (7,)",
        "nothing fills norm/scale",
    ]


def test_message_counts_the_problems():
    tensors = checkpoint()
    del tensors["norm.weight"]
    with pytest.raises(ConversionError, match="1 problem with 29 tensors:\n  nothing"):
        convert(tensors, KINDS["timm"])


def test_missing_block_is_reported():
    tensors = {k: v for k, v in checkpoint(depth=3).items() if "blocks.1." not in k}
    problems = problems_of(tensors)
    assert len(problems) == 12
    assert "nothing fills blocks/1/attention/qkv/kernel" in problems


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("cls_token", np.full((1, 1, 8), np.inf), "8 of 8 values are NaN or infinite"),
        ("cls_token", np.full((1, 1, 8), 1e300), "8 of 8 values are NaN or infinite"),
        ("cls_token", np.ones((1, 1, 8), int), "expected floating point values, got"),
        ("norm.bias", np.ones((1, 8)), "expected (8,), got (1, 8)"),
        ("norm.bias", np.ones((0,)), "got the empty shape (0,)"),
        ("pos_embed", np.ones((1, 9, 8)), "one row for the class token and a square"),
        ("pos_embed", np.ones((1, 1, 8)), "one row for the class token and a square"),
        ("pos_embed", np.ones((2, 10, 8)), "got (2, 10, 8)"),
        ("patch_embed.proj.weight", np.ones((8, 1, 4, 4)), "got (4, 4, 1, 8)"),
        ("patch_embed.proj.weight", np.ones((8, 3, 4, 5)), "got (4, 5, 3, 8)"),
        ("patch_embed.proj.weight", np.ones((8, 48)), "got (8, 48)"),
        ("blocks.0.attn.qkv.weight", np.ones((16, 8)), "expected (8, 24), got (8, 16)"),
        ("blocks.0.mlp.fc2.weight", np.ones((8, 16)), "expected (32, 8), got (16, 8)"),
    ],
)
def test_value_that_does_not_fit_is_the_only_problem(name, value, words):
    (problem,) = problems_of(checkpoint() | {name: value})
    assert problem.startswith(f"{name} -> ")
    assert words in problem


def test_distilled_file_read_as_plain_names_what_is_left_over():
    problems = problems_of(distilled(), "timm")
    assert "no rule for dist_token (1, 1, 8)" in problems
    assert any(problem.startswith("pos_embed -> ") for problem in problems)


@pytest.mark.parametrize("index", ["00", "01", "1000", "x"])
def test_block_number_that_is_none_has_no_rule(index):
    name = f"blocks.{index}.norm1.bias"
    assert problems_of(checkpoint() | {name: np.ones(8)}) == [
        f"no rule for {name} (8,)"
    ]
