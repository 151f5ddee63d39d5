"""What decides a mask: fields of the configuration, parameters, prepared objects."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import ml_collections as mlc
import numpy as np

from exits_jax.cli.fields import leaves
from exits_jax.files.digests import sha256_of
from exits_jax.models.params import Params
from exits_jax.run.fields import decides_a_mask


def fields_of_masks(config: mlc.ConfigDict) -> dict[str, Any]:
    """The fields that decide a mask once parameters and objects are given, by name."""
    everything = leaves(json.loads(config.to_json_best_effort()))
    prompts = config.prompt.enabled
    return {
        name: value
        for name, value in everything
        if decides_a_mask(name, prompts=prompts)
    }


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
