"""What decides a mask: fields of the configuration, parameters, prepared objects."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import ml_collections as mlc
import numpy as np

from exits_jax.files.digests import sha256_of
from exits_jax.models.params import Params

# Fields of the sections below that change no mask.
_INDIFFERENT = frozenset(
    {
        "crop.train_margin",
        "crop.flip_rate",
        "crop.photometric",
        "model.remat",
        "generate.splits",
        "generate.part_size",
        "generate.checkpoint",  # the digest of its parameters stands for it
        "generate.model",  # likewise
    }
)

_OF_PROMPTS = ("walk", "sigma")  # what is beside them is of the training alone


def fields_of_masks(config: mlc.ConfigDict) -> dict[str, Any]:
    """The fields that decide a mask once parameters and objects are given, by name."""
    everything = json.loads(config.to_json_best_effort())
    fields = {
        f"{section}.{name}": value
        for section in ("crop", "model", "decoder", "generate", "walk", "dense_crf")
        for name, value in everything[section].items()
    }
    if config.prompt.enabled:
        fields |= {f"prompt.{name}": everything["prompt"][name] for name in _OF_PROMPTS}
    fields |= {
        f"init.{name}": everything["init"][name] for name in ("image_mean", "image_std")
    }
    fields["similarity.sinkhorn_rounds"] = everything["similarity"]["sinkhorn_rounds"]
    return {name: fields[name] for name in fields if name not in _INDIFFERENT}


def digest_of_params(trees: Iterable[Params]) -> str:
    """SHA-256 of the names, shapes, types and values of parameters on the host."""
    found = hashlib.sha256()
    for tree in trees:
        for path, leaf in jax.tree.leaves_with_path(tree):
            leaf = np.ascontiguousarray(leaf)
            name = f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}\n"
            found.update(name.encode())
            found.update(leaf.reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def digest_of_folder(folder: Path) -> str:
    """SHA-256 of the names and contents of the arrays in a folder."""
    found = hashlib.sha256()
    for path in sorted(folder.glob("*.npy")):
        found.update(f"{path.name} {sha256_of(path)}\n".encode())
    return found.hexdigest()
