"""Which layer and how many hops: a choice made without masks, after the warm-up."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections as mlc
import numpy as np

from exits_jax.batch import Batch
from exits_jax.data.batches import train_batches
from exits_jax.data.table import Instances
from exits_jax.files.json_files import write_json
from exits_jax.models.params import Params, bind
from exits_jax.ops.held_out import held_out_check
from exits_jax.ops.points import seed_cells
from exits_jax.ops.retrieval import retrieve_points
from exits_jax.ops.transition import transition_matrix
from exits_jax.run.from_config import (
    crop_options,
    encoder_config,
    extractor_graph,
    image_stats,
    point_options,
)
from exits_jax.run.workdir import Workdir
from exits_jax.train.objectives import normalise
from exits_jax.train.progress import tracked
from exits_jax.train.sharding import make_mesh, replicate, replicated, shard_batch
from exits_jax.train.step import PointOptions, batch_points
from exits_jax.train.window import TooManyUnreadable

_logger = logging.getLogger(__name__)
NUM_CROPS = 256
TOLERANCE = 0.01  # of the held-out check, about its noise on so many crops


def select_similarity(
    config: mlc.ConfigDict, workdir: Workdir, params: Params, objects: Instances
) -> dict[str, Any]:
    """Measures layers and means of layers at every number of hops; takes the best.

    Candidates are each layer, the mean of all, and what `similarity.layers` names.

    Candidates whose held-out check is within `TOLERANCE` of the highest, among those
    that leave at most `similarity.max_empty` of the crops without points, tell object
    from background equally well: the one that labels most points is taken.
    Writes the table and the choice to `similarity.json`. Boxes alone leave no choice.
    """
    with_points = objects.select(objects.has_points)
    if not with_points:
        _logger.info("no extreme points to choose layers by: similarity.layers stays")
        return {}
    depth = encoder_config(config, role="extractor").depth
    candidates: list[tuple[int, ...]] = [(layer,) for layer in range(1, depth + 1)]
    candidates.append(tuple(range(1, depth + 1)))
    if tuple(config.similarity.layers) not in ((), *candidates):
        candidates.append(tuple(config.similarity.layers))
    hops = tuple(config.similarity.select_hops)
    mesh = make_mesh()
    measure = jax.jit(
        partial(
            _measure,
            extractor_graph(config),
            candidates=tuple(candidates),
            hops=hops,
            options=point_options(config, {}),
            stats=image_stats(config),
            patch_size=config.model.patch_size,
        ),
        out_shardings=replicated(mesh),
    )
    placed = replicate(mesh, params)
    sums: dict[tuple, list] = defaultdict(list)
    num_steps = max(1, NUM_CROPS // config.batch_size)
    batches = train_batches(
        with_points,
        crop_options(config)._replace(photometric=None),
        seed=config.seed,
        global_batch=config.batch_size,
        start_step=0,
        num_steps=num_steps,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        num_threads=config.data.num_threads,
        skip_unreadable=config.data.on_bad == "skip",
    )
    name = "choosing layers and hops"
    for rows in tracked(
        batches, name, total=num_steps, unit="batch", warm_up=1, doing="compiling"
    ):
        rows.pop("student_image", None)
        for key, values in measure(placed, shard_batch(mesh, rows)).items():
            sums[key].append(np.asarray(values))
    table = [
        {
            "layers": list(layers),
            "num_hops": num_hops,
            **dict(zip(("check", "empty", "fg", "bg"), mean_of_batches(values))),
        }
        for (layers, num_hops), values in sums.items()
    ]
    choice = _best(table, config.similarity.max_empty)
    if jax.process_index() == 0:
        write_json(workdir / "similarity.json", {"choice": choice, "table": table})
    _report(table, choice, depth)
    return choice


def mean_of_batches(values: Sequence[np.ndarray]) -> list[float]:
    """Means of batches, of those that have a readable crop.

    Args:
        values: Of each batch the means, and last the share of readable crops; the same
            in every process.

    Raises:
        TooManyUnreadable: If no batch has one; in every process, or those that go on
            would wait for ever.
    """
    found = [value[:-1] for value in values if value[-1] > 0]
    if not found:
        raise TooManyUnreadable(
            "similarity.select: none of its images can be read any more."
        )
    return np.mean(found, axis=0).tolist()


def mean_of_crops(values: jax.Array, valid: jax.Array) -> jax.Array:
    """Mean over the crops of a batch whose image could be read; NaN without any."""
    return jnp.mean(jnp.where(valid, values * 1.0, 0)) * (valid.size / valid.sum())


def _measure(
    graph,
    params: Params,
    batch: Batch,
    *,
    candidates: tuple[tuple[int, ...], ...],
    hops: tuple[int, ...],
    options: PointOptions,
    stats,
    patch_size: int,
) -> dict[tuple, jax.Array]:
    """Per candidate: held-out check, empty crops, share of labeled FG and BG points.

    Each is a mean over the readable crops of all processes; last comes their share.
    """
    encoder, valid = bind(graph, params), batch["valid"]
    image = normalise(batch["image"], stats)
    initial = batch_points(batch, options=options, patch_size=patch_size)
    cells = seed_cells(
        batch["extreme_points"],
        crop_size=batch["image"].shape[1],
        patch_size=patch_size,
        inward_margin_px=options.inward_margin_px,
    )
    depth = len(encoder.blocks)
    maps = encoder.attention(image, layers=tuple(range(1, depth + 1)))
    first = int(encoder.config.class_token)
    found = {}
    in_box = jnp.maximum(initial.unlabeled.sum(axis=1), 1)
    for layers in candidates:
        chosen = jnp.stack([maps[layer - 1] for layer in layers])
        matrix = chosen.mean(axis=0)[:, first:, first:]
        transition = transition_matrix(matrix, num_rounds=options.num_rounds)
        for num_hops in hops:
            check = held_out_check(transition, cells, initial.bg, num_hops=num_hops)
            pseudo = retrieve_points(
                matrix,
                initial,
                num_hops=num_hops,
                fg_threshold=options.fg_threshold,
                bg_threshold=options.bg_threshold,
                num_rounds=options.num_rounds,
            )
            shares = (
                check,
                pseudo.is_empty,
                pseudo.fg.sum(axis=1) / in_box,
                pseudo.bg.sum(axis=1) / in_box,
            )
            found[layers, num_hops] = jnp.stack(
                [*(mean_of_crops(x, valid) for x in shares), valid.mean()]
            )
    return found


def _best(table: list[dict[str, Any]], max_empty: float) -> dict[str, Any]:
    full_enough = [row for row in table if row["empty"] <= max_empty]
    if not full_enough:
        return min(table, key=lambda row: row["empty"])
    enough = max(row["check"] for row in full_enough) - TOLERANCE
    as_good = [row for row in full_enough if row["check"] >= enough]
    return max(as_good, key=lambda row: row["fg"] + row["bg"])


def _report(table: list[dict[str, Any]], choice: dict[str, Any], depth: int) -> None:
    lines = [f"{'layers':>8}  hops  held-out check  empty crops  fg points  bg points"]
    lines += [
        f"{_name(row['layers'], depth):>8}  {row['num_hops']:>4}  {row['check']:>14.3f}"
        f"  {row['empty']:>11.1%}  {row['fg']:>9.1%}  {row['bg']:>9.1%}"
        + ("  <- chosen" if row is choice else "")
        for row in table
    ]
    _logger.info("similarity by layer and hops, without masks:\n%s", "\n".join(lines))


def _name(layers: list[int], depth: int) -> str:
    return "all" if len(layers) == depth else "+".join(map(str, layers))
