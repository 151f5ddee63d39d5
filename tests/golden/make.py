"""Writes the golden numbers of the retrieval and of the mean field again.

    python -m tests.golden.make

They notice drift. Whether a change is right is for the tests against the reference to
say; if they pass, run this and commit the new numbers with the change.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

from exits_jax.ops.labels import drop_points, supervision
from exits_jax.ops.losses import box_mask, crf_loss, mil_loss, point_loss
from exits_jax.ops.mean_field import mean_field
from exits_jax.ops.points import initial_points
from exits_jax.ops.retrieval import retrieve_points

PATH = Path(__file__).with_name("chain.json")
CROP, PATCH, MASK = 80, 16, 20  # a 5 x 5 grid


def make_inputs() -> dict:
    """One crop: an object of two parts, rounded so that the file stays small."""
    rng = np.random.default_rng(2024)
    is_object = np.zeros((5, 5), bool)
    is_object[1:4, [1, 3]] = True
    scores = 2.5 * (is_object.ravel()[:, None] == is_object.ravel()[None])
    scores = scores + rng.normal(scale=0.7, size=(25, 25))
    attention = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    part = np.kron(is_object, np.ones((4, 4), bool))
    image = part[..., None] * np.array([1.0, -0.6, 0.3])
    image = image + rng.normal(scale=0.12, size=image.shape)
    probs = np.clip(0.25 + 0.5 * part + rng.normal(scale=0.2, size=part.shape), 0, 1)
    return {
        "similarity": attention.round(4).tolist(),
        "extreme_points": [[24, 16], [16, 40], [56, 63], [63, 40]],
        "box": [16, 16, 64, 64],
        "valid_region": [0, 0, 80, 70],
        "seed": 11,
        "image": image.round(2).tolist(),
        "probs": probs.round(2).tolist(),
    }


def run(inputs: dict) -> dict:
    """The chain from a crop to its losses."""
    batch = {key: jnp.asarray([value]) for key, value in inputs.items()}
    as_float = lambda key: batch[key].astype(jnp.float32)
    initial = initial_points(
        as_float("extreme_points"),
        jnp.array([True]),
        as_float("box"),
        as_float("valid_region"),
        crop_size=CROP,
        patch_size=PATCH,
        inward_margin_px=4.0,
    )
    pseudo = retrieve_points(
        as_float("similarity"),
        initial,
        num_hops=3,
        fg_threshold=1e-3,
        bg_threshold=-1e-4,
    )
    seeds = batch["seed"].astype(jnp.uint32)
    kept = drop_points(pseudo, seeds, dropout_rate=0.5)
    labels = supervision(initial, kept, is_empty=pseudo.is_empty)
    box = box_mask(as_float("box") + 2.0, crop_size=CROP, mask_size=MASK)
    image, probs = as_float("image"), as_float("probs")
    soft = mean_field(image, probs, box, num_rounds=1, hard=False)
    refined = mean_field(image, probs, box)
    on_points = point_loss(
        probs, labels.target, labels.known, ~labels.is_empty, box, mil_weight=10.0
    )
    cells = lambda mask: np.flatnonzero(mask[0]).tolist()
    numbers = lambda x: np.asarray(x[0], np.float64).round(7).tolist()
    return {
        "fg": cells(initial.fg),
        "bg": cells(initial.bg),
        "pseudo_fg": cells(pseudo.fg),
        "pseudo_bg": cells(pseudo.bg),
        "margin": numbers(pseudo.margin),
        "kept_fg": cells(kept.fg),
        "kept_bg": cells(kept.bg),
        "known": numbers(labels.known),
        "box_column": numbers(box[:, 10]),
        "soft_row": numbers(soft[:, 6]),
        "refined": ["".join(".#"[int(x)] for x in row) for row in refined[0]],
        "mil_loss": numbers(mil_loss(probs, box)),
        "point_loss_with_mil": numbers(on_points),
        "crf_loss": numbers(crf_loss(probs, refined)),
    }


def main() -> None:
    """Writes the file."""
    inputs = make_inputs()
    versions = {
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "numpy": np.__version__,
    }
    record = {"versions": versions, "outputs": run(inputs), "inputs": inputs}
    lines = [f'"{key}": {json.dumps(value)}' for key, value in record.items()]
    PATH.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
