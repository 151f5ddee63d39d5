"""Checkpoints with random tensors under the names of other projects."""

import re

import numpy as np


def timm(width=8, depth=2, patch=4, grid=3, extra_rows=1):
    """timm's names and layouts."""
    rng = np.random.default_rng(0)
    hidden = 4 * width
    shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, extra_rows + grid * grid, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    for i in range(depth):
        for norm in ("norm1", "norm2"):
            shapes[f"blocks.{i}.{norm}.weight"] = (width,)
            shapes[f"blocks.{i}.{norm}.bias"] = (width,)
        for name, out, size in (
            ("attn.qkv", 3 * width, width),
            ("attn.proj", width, width),
            ("mlp.fc1", hidden, width),
            ("mlp.fc2", width, hidden),
        ):
            shapes[f"blocks.{i}.{name}.weight"] = (out, size)
            shapes[f"blocks.{i}.{name}.bias"] = (out,)
    return {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def with_prefix(prefix, tensors):
    return {prefix + name: value for name, value in tensors.items()}


def dino(tensors):
    """The whole training checkpoint, flattened; the student differs by its sign."""
    student = {name: -value for name, value in tensors.items()}
    heads = {
        "student.module.head.mlp.0.weight": np.ones((4, 8), np.float32),
        "teacher.head.last_layer.weight_g": np.ones((4, 1), np.float32),
    }
    return (
        with_prefix("student.module.backbone.", student)
        | with_prefix("teacher.backbone.", tensors)
        | heads
    )


_HF = (
    (r"cls_token", "embeddings.cls_token"),
    (r"pos_embed", "embeddings.position_embeddings"),
    (r"patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"norm\.", "layernorm."),
    (r"blocks\.(\d+)\.norm1\.", r"encoder.layer.\1.layernorm_before."),
    (r"blocks\.(\d+)\.norm2\.", r"encoder.layer.\1.layernorm_after."),
    (r"blocks\.(\d+)\.attn\.proj\.", r"encoder.layer.\1.attention.output.dense."),
    (r"blocks\.(\d+)\.mlp\.fc1\.", r"encoder.layer.\1.intermediate.dense."),
    (r"blocks\.(\d+)\.mlp\.fc2\.", r"encoder.layer.\1.output.dense."),
)


def hugging_face(tensors, prefix=""):
    """What `save_pretrained` of a ViT writes."""
    renamed = {}
    for name, value in tensors.items():
        if ".attn.qkv." in name:
            block, leaf = name.split(".")[1], name.split(".")[-1]
            for part, x in zip(("query", "key", "value"), np.split(value, 3)):
                key = f"encoder.layer.{block}.attention.attention.{part}.{leaf}"
                renamed[prefix + key] = x
            continue
        for ours, theirs in _HF:
            new, count = re.subn(f"^{ours}", theirs, name)
            if count:
                renamed[prefix + new] = value
    return renamed


def npz(tensors, heads=2, *, big_vision=False):
    """Google's names and layouts."""
    attention, norms, mlp = (0, (0, 1), 0) if big_vision else (1, (0, 2), 3)
    width = tensors["cls_token"].shape[-1]
    arrays = {
        "cls": tensors["cls_token"],
        "embedding/kernel": tensors["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": tensors["patch_embed.proj.bias"],
        "Transformer/posembed_input/pos_embedding": tensors["pos_embed"],
        "Transformer/encoder_norm/scale": tensors["norm.weight"],
        "Transformer/encoder_norm/bias": tensors["norm.bias"],
        "head/kernel": np.ones((width, 3), np.float32),
        "head/bias": np.ones(3, np.float32),
        "pre_logits/kernel": np.ones((width, width), np.float32),
        "pre_logits/bias": np.ones(width, np.float32),
    }
    depth = sum(name.endswith("attn.qkv.bias") for name in tensors)
    for i in range(depth):
        theirs, ours = f"Transformer/encoderblock_{i}/", f"blocks.{i}."
        for norm, number in zip(norms, (1, 2)):
            for leaf, source in (("scale", "weight"), ("bias", "bias")):
                value = tensors[f"{ours}norm{number}.{source}"]
                arrays[f"{theirs}LayerNorm_{norm}/{leaf}"] = value
        key = f"{theirs}MultiHeadDotProductAttention_{attention}/"
        kernels = np.split(tensors[f"{ours}attn.qkv.weight"], 3)
        biases = np.split(tensors[f"{ours}attn.qkv.bias"], 3)
        for part, kernel, bias in zip(("query", "key", "value"), kernels, biases):
            arrays[f"{key}{part}/kernel"] = kernel.T.reshape(width, heads, -1)
            arrays[f"{key}{part}/bias"] = bias.reshape(heads, -1)
        projection = tensors[f"{ours}attn.proj.weight"].T
        arrays[f"{key}out/kernel"] = projection.reshape(heads, -1, width)
        arrays[f"{key}out/bias"] = tensors[f"{ours}attn.proj.bias"]
        for number, layer in enumerate(("fc1", "fc2")):
            dense = f"{theirs}MlpBlock_{mlp}/Dense_{number}/"
            arrays[f"{dense}kernel"] = tensors[f"{ours}mlp.{layer}.weight"].T
            arrays[f"{dense}bias"] = tensors[f"{ours}mlp.{layer}.bias"]
    return arrays


def stacked(arrays):
    """The same with all blocks in one array, as big_vision's scan keeps them."""
    depth = sum(name.endswith("MlpBlock_0/Dense_0/bias") for name in arrays)
    result = {}
    for name, value in arrays.items():
        if "encoderblock_0/" in name:
            rows = [arrays[name.replace("_0/", f"_{i}/", 1)] for i in range(depth)]
            result[name.replace("encoderblock_0/", "encoderblock/")] = np.stack(rows)
        elif "encoderblock_" not in name:
            result[name] = value
    return result


def decoder(width=8, features=6):
    """The mask decoder of the paper's baseline."""
    rng = np.random.default_rng(1)
    shapes = {
        "roi_head.mlp1.weight": (features, width),
        "roi_head.mlp1.bias": (features,),
        "roi_head.mlp2.weight": (features, features),
        "roi_head.mlp2.bias": (features,),
    }
    for k in range(4):
        inputs = width if k == 0 else features
        shapes[f"mask_head.convs.{k}.conv.weight"] = (features, inputs, 3, 3)
        shapes[f"mask_head.convs.{k}.conv.bias"] = (features,)
    return {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def conv_stem(tensors):
    """The baseline's stem in place of the patch kernel; patches of 4 px."""
    rng = np.random.default_rng(2)
    width = tensors["cls_token"].shape[-1]
    kept = {k: v for k, v in tensors.items() if not k.startswith("patch_embed")}
    shapes = {"3.weight": (width, width, 1, 1), "3.bias": (width,)}
    stem = {f"patch_embed.proj.1.{name}": shape for name, shape in shapes.items()}
    for k, (inputs, outputs) in enumerate(((3, width // 2), (width // 2, width))):
        stem[f"patch_embed.proj.{k}.0.weight"] = (outputs, inputs, 3, 3)
        stem[f"patch_embed.proj.{k}.1.weight"] = (outputs,)
        stem[f"patch_embed.proj.{k}.1.bias"] = (outputs,)
    return kept | {
        name: rng.normal(size=shape).astype(np.float32) for name, shape in stem.items()
    }


def mask_auto_labeler(backbone, head):
    """Student and teacher in one; the teacher differs by its sign."""
    student = with_prefix("backbone.", backbone) | head
    teacher = {name: -value for name, value in student.items()}
    return with_prefix("student.", student) | with_prefix("teacher.", teacher)
