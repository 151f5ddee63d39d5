"""Masks of objects: crops through the model, logits back into the images (Sec. 3.3).

A process labels its objects alone, on its own devices: no other one can stall it.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import jax
import ml_collections as mlc
import numpy as np
from jax.sharding import Mesh

from exits_jax.batch import Batch, map_fields
from exits_jax.data.batches import label_batches
from exits_jax.data.crops import Window
from exits_jax.data.images import ImageError
from exits_jax.data.records import Instance, Problem
from exits_jax.data.table import Instances
from exits_jax.labeling.device_memory import Pieces
from exits_jax.labeling.layers import in_layers
from exits_jax.labeling.plan import Plan, planned
from exits_jax.labeling.prediction import Prediction
from exits_jax.labeling.pseudo_masks import Outcome, PseudoInstance
from exits_jax.models.params import Params, abstract_graph
from exits_jax.ops.clicks import Clicks
from exits_jax.run.from_config import (
    crop_options,
    dense_crf_options,
    extractor_graph,
    generator_builder,
    image_stats,
)
from exits_jax.train.predict import (
    Walk,
    fused_logits,
    refined_logits,
    walk_logits,
    walk_of,
)
from exits_jax.train.sharding import shard_batch, split_rows
from exits_jax.train.step import predict_step

IN_FLIGHT = 1024  # objects whose logits may wait for a thread
ROWS = ("image", "box_area", *Clicks._fields)  # what the device is given


class Models(NamedTuple):
    """What makes masks; parameters are on every device of the mesh."""

    generators: list[Params]  # their logits are averaged; none: the walk alone
    encoder: Params | None = None  # of the walk
    walk: Walk | None = None


class _Crop(NamedTuple):
    """The logits of an object's crop, and where it lies."""

    item: Instance
    window: Window
    logits: np.ndarray  # [h, w]


def label_objects(
    config: mlc.ConfigDict,
    mesh: Mesh,
    models: Models,
    objects: Instances,
    blocks: Sequence[range],
    *,
    on_start: Callable[[int], object],
) -> Generator[tuple[int, Outcome], None, None]:
    """The pseudo mask of each object, or why there is none.

    The device predicts the next batch while threads paste and encode the last one. A
    batch has `generate.batch_size` objects, whatever the number of processes. Where
    the devices of the mesh do not divide it, repeated rows fill it up and are dropped.

    Args:
        config: The whole configuration.
        mesh: Devices of this process alone.
        models: What makes the masks.
        objects: All objects of the split.
        blocks: What to label. A block depends on no other one: with `generate.layers`,
            rivals that are not in it are predicted with it.
        on_start: Called with the number of objects whenever a batch is begun.

    Yields:
        (place among the annotations of the file, outcome), block by block, in the order
        of `objects`.
    """
    plan = planned(config, objects, blocks)
    chosen = objects.select(plan.rows)
    pieces = Pieces(
        logits_of(config, mesh, models),
        num_rows=config.generate.batch_size,
        num_devices=mesh.size,
    )
    waiting: deque[tuple[int, Future[Outcome]]] = deque()
    with ThreadPoolExecutor(max(1, config.data.num_threads)) as pool:
        crops = _crops(config, pieces, chosen, plan, on_start)
        for place, (crop, *rivals) in _complete(crops, plan):
            if crop is None:
                make = partial(_unreadable, chosen, place)
            else:
                make = partial(_pseudo_mask, config, crop, rivals)
            waiting.append((int(chosen.position[place]), pool.submit(make)))
            while waiting and (len(waiting) > IN_FLIGHT or waiting[0][1].done()):
                position, made = waiting.popleft()  # logits must not pile up
                yield position, made.result()
        for position, made in waiting:
            yield position, made.result()


def logits_of(
    config: mlc.ConfigDict, mesh: Mesh, models: Models
) -> Callable[[Batch], jax.Array]:
    """A compiled function from rows, a multiple of the devices, to mask logits."""
    stats, section = image_stats(config), config.generate
    compiled = partial(jax.jit, out_shardings=split_rows(mesh))
    graph = abstract_graph(generator_builder(config, role="generator"))
    generate = compiled(partial(predict_step, graph, stats=stats, flip=section.flip))
    encoder_graph = extractor_graph(config)
    follow = compiled(
        partial(walk_of, encoder_graph, stats=stats), static_argnames="walk"
    )
    fuse = compiled(partial(fused_logits, walk_weight=section.walk_weight))
    crf = dense_crf_options(config)
    finish = partial(
        refined_logits, click_depth=section.click_depth, cut=section.threshold
    )
    refine, hold_clicks = (compiled(partial(finish, crf=x)) for x in (crf, None))

    def refined(logits: jax.Array, batch: Batch) -> jax.Array:
        return refine(logits, batch) if crf or section.click_depth else logits

    def predict(rows: Batch) -> jax.Array:
        batch = shard_batch(mesh, rows)
        if models.walk is not None:  # some generators see it, too
            batch["walk"] = follow(models.encoder, batch, walk=models.walk)
        if not models.generators:
            return refined(walk_logits(batch["walk"]), batch)
        of_each = [generate(params, batch) for params in models.generators]
        logits = sum(of_each[1:], of_each[0]) / len(of_each)
        if section.source == "generator":
            return refined(logits, batch)
        fused = fuse(logits, refined(walk_logits(batch["walk"]), batch))
        return hold_clicks(fused, batch) if section.click_depth else fused

    return predict


def _complete(
    crops: Iterator[_Crop | None], plan: Plan
) -> Iterator[tuple[int, list[_Crop | None]]]:
    """Each wanted place with the crops that its mask is made from, its own first.

    Crops come in the order of the plan and are dropped after their last use.
    """
    wanted = deque(np.flatnonzero(plan.is_wanted).tolist())
    last_uses = plan.last_uses()
    held: dict[int, _Crop | None] = {}
    for place, crop in enumerate(crops):
        if last_uses[place] >= 0:
            held[place] = crop
        while wanted and max(needed := plan.needed(wanted[0])) <= place:
            first = wanted.popleft()
            yield first, [held[each] for each in needed]
            for each in needed:
                if last_uses[each] == first:
                    del held[each]


def _crops(
    config: mlc.ConfigDict,
    pieces: Pieces,
    objects: Instances,
    plan: Plan,
    on_start: Callable[[int], object],
) -> Iterator[_Crop | None]:
    """Each object's logits; None where its image cannot be read."""
    for rows, logits in _predictions(config, pieces, objects, plan, on_start):
        for row in np.flatnonzero(rows["index"] >= 0):
            if not rows["valid"][row]:
                yield None
                continue
            window = Window(*(int(edge) for edge in rows["window"][row]))
            yield _Crop(objects[int(rows["index"][row])], window, logits[row])


def _predictions(
    config: mlc.ConfigDict,
    pieces: Pieces,
    objects: Instances,
    plan: Plan,
    on_start: Callable[[int], object],
) -> Iterator[tuple[Batch, np.ndarray]]:
    """Batches with their logits, each fetched while the device works on the next."""
    batches = label_batches(
        objects,
        crop_options(config),
        batch=config.generate.batch_size,
        num_workers=config.data.num_workers,
        num_threads=config.data.num_threads,
        skip_unreadable=True,
    )
    before = None
    with contextlib.closing(batches):
        for rows in batches:
            started = pieces.start(map_fields(np.asarray, rows, ROWS))
            if before is not None:
                yield before[0], pieces.finish(before[1])
            before = rows, started
            places = rows["index"][rows["index"] >= 0]
            on_start(int(plan.is_wanted[places].sum()))
        if before is not None:
            yield before[0], pieces.finish(before[1])


def _pseudo_mask(
    config: mlc.ConfigDict, crop: _Crop, rivals: Sequence[_Crop | None]
) -> Outcome:
    item, threshold = crop.item, config.generate.threshold
    made = Prediction.of_crop(crop.logits, crop.window, item, threshold)
    made = in_layers(
        made,
        [
            Prediction.of_crop(other.logits, other.window, other.item, threshold)
            for other in rivals
            if other is not None
        ],
    )
    if made.is_empty and config.generate.empty == "skip":
        return Problem(
            item.annotation_id,
            "E301",
            f"Annotation {item.annotation_id!r:.80}: no pixel of the box exceeds "
            f"the threshold {config.generate.threshold}.",
        )
    if made.is_empty:
        made = made.filled()
    return PseudoInstance(
        annotation_id=item.annotation_id,
        rle=made.rle(),
        score=made.score,
        click_hit=made.click_hit,
        box_iou=made.box_iou,
        num_parts=made.num_parts,
        flags=made.flags,
    )


def _unreadable(objects: Instances, index: int) -> Problem:
    """Why the image of an object gave no crop."""
    identity = objects[index].annotation_id
    code, why = "E110", "its image has another size than the annotations say."
    try:
        objects.read(int(objects.image[index]))
    except ImageError as error:
        code, why = error.code, str(error)
    except FileNotFoundError as error:
        code, why = "E111", str(error)
    return Problem(identity, code, f"Annotation {identity!r:.80}: {why}")
