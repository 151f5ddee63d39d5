"""Weights as `convert_weights` writes them: safetensors with our names."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from exits_jax.models.params import Params

# Start of a usual name -> the public file that it is made from.
PUBLIC = {
    "mae": "mae_pretrain_vit_base.pth",
    "deit": "deit_base_patch16_224-b5f2ef4d.pth",
    "dino": "dino_vitbase16_pretrain.pth",
    "in21k": "the model.safetensors of timm's vit_base_patch16_224.augreg_in21k "
    "(with --image-mean=0.5,0.5,0.5 --image-std=0.5,0.5,0.5)",
}


def read_encoder(path: str | Path) -> tuple[Params, dict[str, str]]:
    """Parameters of an encoder and the metadata of their file.

    Raises:
        FileNotFoundError: If the file is missing; the message says how to make it.
        ValueError: If it is not such a file.
    """
    path = Path(path)
    arrays, metadata = _read(path)
    if "encoder/position_table" in arrays:
        return _nested(arrays)["encoder"], metadata
    if "position_table" not in arrays:
        raise ValueError(
            f"{path} does not hold an encoder under the names of exits_jax: it has no "
            "'position_table'. Convert it first: python -m convert_weights "
            f"{path} --out=OTHER.safetensors"
        )
    return _nested(arrays), metadata


def read_generator(path: str | Path) -> tuple[Params, dict[str, str]]:
    """Parameters of a whole generator and the metadata of their file.

    The encoder of a walk that its masks are made with is left out, see `read_model`.

    Raises:
        FileNotFoundError: If the file is missing; the message says how to make it.
        ValueError: If it is not such a file.
    """
    generator, _, metadata = read_model(path)
    return generator, metadata


def read_model(path: str | Path) -> tuple[Params, Params | None, dict[str, str]]:
    """A generator, the encoder of its walk if it has one, and their file's metadata.

    Raises:
        FileNotFoundError: If the file is missing; the message says how to make it.
        ValueError: If it is not such a file.
    """
    path = Path(path)
    arrays, metadata = _read(path)
    tree = _nested(arrays)
    walk = tree.pop("walk", None)
    if not {"encoder", "decoder"} <= tree.keys() <= {"encoder", "decoder", "prompt"}:
        raise ValueError(
            f"{path} does not hold a generator under the names of exits_jax, which all "
            "begin with 'encoder/', 'decoder/' or, where it sees clicks, 'prompt/', "
            "where it is joined by a walk, 'walk/'. An encoder alone is named by "
            "init.encoder; a generator is made from the workdir of a run: "
            f"python -m convert_weights WORKDIR --out={path}"
        )
    return tree, walk, metadata


def read_metadata(path: str | Path) -> dict[str, str]:
    """What a file says about itself, without its arrays.

    Raises:
        FileNotFoundError: If the file is missing; the message says how to make it.
        ValueError: If it is not such a file.
    """
    with _opened(Path(path)) as file:
        return file.metadata() or {}


def faults_of_fit(params: Params, expected: Params) -> list[str]:
    """What keeps parameters from filling a model: missing, unknown, misshapen ones."""
    have, want = flatten(params), flatten(expected)
    faults = [
        f"nothing fills {key} {want[key].shape}" for key in want.keys() - have.keys()
    ]
    faults += [
        f"no place for {key} {have[key].shape}" for key in have.keys() - want.keys()
    ]
    faults += [
        f"{key}: expected {want[key].shape}, got {have[key].shape}"
        for key in want.keys() & have.keys()
        if want[key].shape != have[key].shape
    ]
    return sorted(faults)


def flatten(tree: Params, prefix: str = "") -> dict[str, Any]:
    """Leaves by their path, "/" between levels."""
    flat = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        flat |= flatten(value, f"{path}/") if isinstance(value, dict) else {path: value}
    return flat


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    with _opened(path) as file:
        names, metadata = list(file.keys()), file.metadata() or {}
        if odd := [name for name in names if not name.isprintable()]:
            raise ValueError(f"{path}: {odd[0]!a:.80} is no name of a tensor.")
        try:
            arrays = {name: file.get_tensor(name) for name in names}
        except (SafetensorError, ValueError) as error:
            raise ValueError(f"{path}: a tensor cannot be read: {error}.") from error
    if bad := [name for name in names if not np.isfinite(arrays[name]).all()]:
        raise ValueError(
            f"{path}: {len(bad)} of {len(arrays)} tensors hold NaN or infinities, the "
            f"first: {bad[0]:.80}. A model with them computes nothing; use other "
            "weights."
        )
    return arrays, metadata


def _opened(path: Path):
    if not path.is_file():
        family = path.name.partition("_")[0]
        known = PUBLIC.get(family, f"such as {PUBLIC['mae']}")
        raise FileNotFoundError(
            f"No weights at {path}. Make them with: python -m convert_weights "
            f"SOURCE --out={path}, where SOURCE is a checkpoint of a ViT (timm, DeiT, "
            f"MAE, DINO, Hugging Face, .npz) or the workdir of a run: {known}."
        )
    try:
        return safe_open(str(path), framework="numpy")
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}.") from error


def _nested(arrays: dict[str, np.ndarray]) -> Params:
    tree: Params = {}
    for path, array in arrays.items():
        *folders, leaf = path.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[leaf] = jnp.asarray(array, jnp.float32)
    return tree
