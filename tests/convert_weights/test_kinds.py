"""Checkpoints of other projects: their kind, and the same numbers as under timm's."""

import numpy as np
import pytest

from convert_weights.convert import ConversionError, convert
from convert_weights.rules import KINDS, detect_kind
from tests.support import checkpoints

MASKED = {
    "decoder.mask_token": np.ones((1, 1, 4), np.float32),
    "decoder.decoder_embed.weight": np.ones((4, 8), np.float32),
}
POOLER = {"pooler.dense.weight": np.ones((8, 8), np.float32)}


def in_memory(tensors):
    """The names that a ViT of transformers 5 has before it is saved."""
    changes = (
        ("encoder.layer.", "layers."),
        ("attention.attention.query", "attention.q_proj"),
        ("attention.attention.key", "attention.k_proj"),
        ("attention.attention.value", "attention.v_proj"),
        ("attention.output.dense", "attention.o_proj"),
        ("intermediate.dense", "mlp.fc1"),
        ("output.dense", "mlp.fc2"),
    )
    renamed = {}
    for name, value in tensors.items():
        for old, new in changes:
            name = name.replace(old, new)
        renamed[name] = value
    return renamed


def distilled():
    tensors = checkpoints.timm(extra_rows=2)
    extra = {
        "deit.embeddings.distillation_token": np.ones((1, 1, 8), np.float32),
        "cls_classifier.weight": np.ones((3, 8), np.float32),
        "distillation_classifier.weight": np.ones((3, 8), np.float32),
    }
    return checkpoints.hugging_face(tensors, "deit.") | extra


TIMM = checkpoints.timm()
HF = checkpoints.hugging_face
ENCODERS = {
    "DINO, teacher": ("dino", checkpoints.dino(TIMM)),
    "ViTModel": ("hf_vit", HF(TIMM) | POOLER),
    "ViTModel, in memory": ("hf_vit", in_memory(HF(TIMM))),
    "ViTForImageClassification": (
        "hf_vit",
        HF(TIMM, "vit.") | {"classifier.bias": np.ones(2, np.float32)},
    ),
    "ViTMAEForPreTraining": ("hf_mae", HF(TIMM, "vit.") | MASKED),
    "npz": ("npz", checkpoints.npz(TIMM)),
    "big_vision": (
        "npz",
        checkpoints.with_prefix("params/", checkpoints.npz(TIMM, big_vision=True)),
    ),
    "MAE with decoder": (
        "mae",
        TIMM
        | {
            "mask_token": np.ones((1, 1, 4), np.float32),
            "decoder_blocks.0.norm1.weight": np.ones(4, np.float32),
            "decoder_pos_embed": np.ones((1, 10, 4), np.float32),
        },
    ),
    "AugReg": (
        "timm",
        TIMM
        | {
            "pre_logits.fc.weight": np.ones((8, 8), np.float32),
            "head.weight": np.ones((21843, 8), np.float32),
        },
    ),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_kind_is_told_from_the_names(name):
    kind, tensors = ENCODERS[name]
    assert detect_kind(tensors) == kind


@pytest.mark.parametrize("name", ENCODERS)
def test_encoder_is_the_same_under_all_names(name):
    kind, tensors = ENCODERS[name]
    expected = convert(TIMM, KINDS["timm"]).params
    params = convert(tensors, KINDS[kind]).params
    assert params.keys() == expected.keys()
    for key, value in params.items():
        np.testing.assert_array_equal(value, expected[key], err_msg=key)


def test_student_of_dino_is_taken_when_asked_for():
    params = convert(checkpoints.dino(TIMM), KINDS["dino_student"]).params
    np.testing.assert_array_equal(params["class_token"], -TIMM["cls_token"])


def test_student_alone_is_a_kind_of_its_own():
    tensors = checkpoints.dino(TIMM)
    students = {k: v for k, v in tensors.items() if k.startswith("student")}
    assert detect_kind(students) == "dino_student"


def test_distilled_deit_of_hugging_face_loses_the_distillation_position():
    assert detect_kind(distilled()) == "hf_deit"
    table = convert(distilled(), KINDS["hf_deit"]).params["position_table"]
    source = checkpoints.timm(extra_rows=2)["pos_embed"]
    np.testing.assert_array_equal(table, source[0, [0, *range(2, 11)]])


def test_patches_of_8_px_are_read_as_such():
    tensors = checkpoints.timm(patch=8, grid=28)
    kernel = convert(tensors, KINDS["timm"]).params["patch_embedding/kernel"]
    assert kernel.shape == (8, 8, 3, 8)


def test_missing_key_projection_is_reported():
    tensors = HF(TIMM)
    del tensors["encoder.layer.1.attention.attention.key.bias"]
    with pytest.raises(ConversionError, match="blocks/1/attention/qkv/bias: no key"):
        convert(tensors, KINDS["hf_vit"])


def test_query_of_another_shape_is_reported():
    tensors = HF(TIMM)
    tensors["encoder.layer.0.attention.attention.query.bias"] = np.ones(7, np.float32)
    with pytest.raises(ConversionError, match="query, key and value differ in shape"):
        convert(tensors, KINDS["hf_vit"])


def test_encoder_without_class_token_is_complete():
    tensors = checkpoints.timm(extra_rows=0)
    del tensors["cls_token"]
    assert "class_token" not in convert(tensors, KINDS["timm"]).params


@pytest.mark.parametrize("stem", ["patch", "conv"])
def test_baseline_checkpoint_is_a_complete_generator(stem):
    backbone = TIMM if stem == "patch" else checkpoints.conv_stem(TIMM)
    head = checkpoints.decoder()
    tensors = checkpoints.mask_auto_labeler(backbone, head)
    assert detect_kind(tensors) == "mal"
    params = convert(tensors, KINDS["mal"]).params
    np.testing.assert_array_equal(
        params["decoder/prototype_head/hidden/kernel"], head["roi_head.mlp1.weight"].T
    )
    np.testing.assert_array_equal(
        params["decoder/pixel_head/convs/3/kernel"],
        head["mask_head.convs.3.conv.weight"].transpose(2, 3, 1, 0),
    )
    names = {name.split("/")[1] for name in params if "patch_embedding" in name}
    assert names == {"patch_embedding"}
    leaves = {name.split("patch_embedding/")[-1].split("/")[0] for name in params}
    assert ("convs" in leaves) == (stem == "conv")


def test_teacher_of_the_baseline_is_taken_when_asked_for():
    tensors = checkpoints.mask_auto_labeler(TIMM, checkpoints.decoder())
    params = convert(tensors, KINDS["mal_teacher"]).params
    np.testing.assert_array_equal(params["encoder/class_token"], -TIMM["cls_token"])


def test_generator_without_a_layer_of_its_decoder_is_refused():
    tensors = checkpoints.mask_auto_labeler(TIMM, checkpoints.decoder())
    del tensors["student.mask_head.convs.2.conv.bias"]
    with pytest.raises(ConversionError, match="nothing fills decoder/pixel_head/con"):
        convert(tensors, KINDS["mal"])


def test_stem_convolution_of_another_width_is_reported():
    backbone = checkpoints.conv_stem(TIMM)
    backbone["patch_embed.proj.0.0.weight"] = np.ones((5, 3, 3, 3), np.float32)
    tensors = checkpoints.mask_auto_labeler(backbone, checkpoints.decoder())
    with pytest.raises(ConversionError, match=r"convs/0/kernel: expected \(3, 3, 3, 4"):
        convert(tensors, KINDS["mal"])
