"""Phase generate: one mask per annotated object, as COCO JSON (Sec. 3.3)."""

import json
import logging
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import ml_collections as mlc
import numpy as np
from jax.experimental import multihost_utils

import exits_jax
from exits_jax.data.annotations import Instance, Problem, read_source
from exits_jax.data.batches import label_batches
from exits_jax.data.crops import Window, paste_logits
from exits_jax.data.images import ImageError, check_image
from exits_jax.export.coco import PseudoInstance, write_coco
from exits_jax.export.evaluation import write_json
from exits_jax.export.floors import box_mask
from exits_jax.export.quality import (
    box_tightness,
    click_hits,
    confidence,
    count_parts,
)
from exits_jax.export.rle import encode
from exits_jax.models.params import Params, abstract_graph
from exits_jax.phases.inputs import instances
from exits_jax.phases.options import crop_options, generator_builder, image_stats
from exits_jax.phases.order import begin
from exits_jax.phases.prepare import read_problems
from exits_jax.phases.weights import load_params, provenance
from exits_jax.phases.workdir import Workdir, environment
from exits_jax.train.progress import progress_bar
from exits_jax.train.sharding import (
    data_mesh,
    local_rows,
    shard_batch,
    split_over_data,
)
from exits_jax.train.step import predict_step

_logger = logging.getLogger(__name__)
Labeled = PseudoInstance | Problem
IN_FLIGHT = 1024  # objects whose logits may wait for a thread


def run(config: mlc.ConfigDict, workdir: Workdir) -> None:
    """Writes `pseudo_masks.json` for the training split, `val/...` for the other."""
    if not begin(config, workdir, "generate"):
        return
    models = [
        load_params(config, workdir, "train", role="generator", which=which)
        for which in _trees(config.generate.weights)
    ]
    for split, path in workdir.facts("prepare")["sources"].items():
        if split not in config.generate.splits:
            continue
        objects = instances(config, workdir, split)
        labeled = label_objects(config, models, objects, name=f"generate {split}")
        labeled = _gather(workdir, labeled)
        rows = [item for item in labeled if isinstance(item, PseudoInstance)]
        failed = [item for item in labeled if isinstance(item, Problem)]
        if jax.process_index() == 0:
            folder = workdir.path if split == "train" else workdir / split
            problems = read_problems(workdir, split) + failed
            write_coco(
                folder, read_source(path), rows, problems, _info(config, workdir)
            )
            _report(folder, rows, problems)
    workdir.finish("generate")


def label_objects(
    config: mlc.ConfigDict,
    models: list[Params],
    objects: list[Instance],
    *,
    name: str,
) -> list[Labeled]:
    """The pseudo mask of each object of this process, or why there is none.

    The device predicts the next batch while threads paste and encode the last one.
    """
    predict = logits_of(config, models)
    work: list[Future[Labeled]] = []
    with ThreadPoolExecutor(max(1, config.data.num_threads)) as pool:
        for rows, logits in _predictions(config, predict, objects, name):
            for row in np.flatnonzero(rows["index"] >= 0):
                item = objects[rows["index"][row]]
                if rows["valid"][row]:
                    window = Window(*(int(edge) for edge in rows["window"][row]))
                    make = partial(_pseudo_mask, config, item, window, logits[row])
                else:
                    make = partial(_unreadable, item)
                work.append(pool.submit(make))
                if len(work) >= IN_FLIGHT:  # a slow host must not pile up logits
                    work[-IN_FLIGHT].result()
        return [future.result() for future in work]


def logits_of(config: mlc.ConfigDict, models: list[Params]):
    """A compiled function from a sharded batch to its mask logits."""
    mesh = data_mesh()
    graph = abstract_graph(generator_builder(config, role="generator"))
    compiled = jax.jit(
        partial(
            predict_step, graph, stats=image_stats(config), flip=config.generate.flip
        ),
        out_shardings=split_over_data(mesh),
    )

    def predict(rows: dict[str, np.ndarray]) -> jax.Array:
        batch = shard_batch(mesh, {key: rows[key] for key in ("image", "box_area")})
        total = compiled(models[0], batch)
        for params in models[1:]:
            total = total + compiled(params, batch)
        return total / len(models)

    return predict


def pasted_mask(
    logits: np.ndarray, item: Instance, window: Window, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Logits of the whole image and the mask where they exceed the threshold."""
    full = paste_logits(logits, window, item.box, item.image_size)
    return full, full > np.log(threshold / (1 - threshold))


def _predictions(
    config: mlc.ConfigDict, predict, objects: list[Instance], name: str
) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
    """Batches with their logits, each fetched while the device works on the next."""
    batches = label_batches(
        objects,
        crop_options(config),
        batch=config.generate.batch_size,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        num_workers=config.data.num_workers,
        num_threads=config.data.num_threads,
        skip_unreadable=True,
    )
    before: tuple[dict[str, np.ndarray], jax.Array] | None = None
    bar = progress_bar(name, total=len(objects), unit="mask")
    with bar:
        for rows in batches:
            logits = predict(rows)
            if before is not None:
                yield before[0], local_rows(before[1])
            before = rows, logits
            bar.update(int((rows["index"] >= 0).sum()) * jax.process_count())
        if before is not None:
            yield before[0], local_rows(before[1])


def _pseudo_mask(
    config: mlc.ConfigDict, item: Instance, window: Window, logits: np.ndarray
) -> Labeled:
    full, mask = pasted_mask(logits, item, window, config.generate.threshold)
    flags = list(item.flags)
    score = confidence(full, mask)
    if not mask.any():
        if config.generate.empty == "skip":
            return Problem(
                item.annotation_id,
                "E301",
                f"Annotation {item.annotation_id}: no pixel of the box exceeds the "
                f"threshold {config.generate.threshold}.",
            )
        mask, score = box_mask(item.box, item.image_size), 0.0
        flags.append("filled_box")
    elif (mask == box_mask(item.box, item.image_size)).all():
        flags.append("covers_box")
    x0, y0, x1, y1 = item.box
    tolerance = max(2.0, 0.02 * max(x1 - x0, y1 - y0))
    return PseudoInstance(
        annotation_id=item.annotation_id,
        rle=encode(mask),
        score=score,
        click_hit=click_hits(mask, item.extreme_points, tolerance),
        box_iou=box_tightness(mask, item.box),
        num_parts=count_parts(mask),
        flags=tuple(flags),
    )


def _unreadable(item: Instance) -> Problem:
    """Why the image of an object gave no crop."""
    code, why = "E110", "its image has another size than the annotations say."
    try:
        check_image(item.image_path, full=True)
    except (ImageError, FileNotFoundError) as error:
        code, why = "E113", str(error)
    return Problem(item.annotation_id, code, f"Annotation {item.annotation_id}: {why}")


def _trees(weights: str) -> tuple[str, ...]:
    return {
        "student": ("params",),
        "teacher": ("teacher",),
        "both": ("params", "teacher"),
    }[weights]


def _gather(workdir: Workdir, labeled: list[Labeled]) -> list[Labeled]:
    """The rows of all processes, through files that every process can see."""
    if jax.process_count() == 1:
        return labeled
    folder = workdir / "parts"
    folder.mkdir(exist_ok=True)
    part = [(type(item).__name__, item._asdict()) for item in labeled]
    write_json(folder / f"{jax.process_index()}.json", part)
    multihost_utils.sync_global_devices("pseudo masks are written")
    kinds = {"PseudoInstance": PseudoInstance, "Problem": Problem}
    gathered: list[Labeled] = []
    for process in range(jax.process_count()):
        for kind, fields in json.loads((folder / f"{process}.json").read_text()):
            gathered.append(kinds[kind](**fields))
    multihost_utils.sync_global_devices("pseudo masks are read")
    return gathered


def _info(config: mlc.ConfigDict, workdir: Workdir) -> dict[str, Any]:
    """Provenance of the masks, for the JSON's info."""
    found = environment()
    init = workdir.facts("train").get("init") or provenance(config)
    return {
        "version": exits_jax.__version__,
        "commit": found["commit"],
        "method": config.loss.method,
        "mask_threshold": config.generate.threshold,
        "points_source": config.data.points,
        **init,
    }


def _report(folder, rows: list[PseudoInstance], problems: list[Problem]) -> None:
    """What can be said about the masks without a true one."""
    if not rows:
        _logger.warning("%s: no mask was made", folder / "pseudo_masks.json")
        return
    clicks = [np.mean(row.click_hit) for row in rows if row.click_hit is not None]
    on_clicks = f"{np.mean(clicks):.1%}" if clicks else "-"
    _logger.info(
        "%s: %d masks, %d skipped; clicks hit %s, box IoU %.3f, confidence %.3f",
        folder / "pseudo_masks.json",
        len(rows),
        len(problems),
        on_clicks,
        np.mean([row.box_iou for row in rows]),
        np.mean([row.score for row in rows]),
    )
