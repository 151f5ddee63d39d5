"""Phase generate: one mask per annotated object, as COCO JSON (Sec. 3.3)."""

import heapq
import json
import logging
import operator
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import jax
import ml_collections as mlc
import numpy as np
from jax.experimental import multihost_utils

import exits_jax
from exits_jax.data.annotations import (
    CocoFile,
    Instance,
    Instances,
    Problem,
    TooManySkipped,
)
from exits_jax.data.batches import label_batches
from exits_jax.data.crops import Window, paste_logits
from exits_jax.data.images import ImageError
from exits_jax.export.coco import Outcome, PseudoInstance, Skip, write_coco
from exits_jax.export.files import json_text, whole_file
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
    make_mesh,
    local_rows,
    shard_batch,
    split_rows,
)
from exits_jax.train.step import predict_step

_logger = logging.getLogger(__name__)
UNREADABLE = ("E110", "E111", "E113", "E114")  # codes of images that gave no crop
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
        part = workdir / "parts" / f"{split}-{{}}.jsonl"
        _write_part(_part(part, jax.process_index()), labeled)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"masks of {split} are made")
        if jax.process_index() == 0:
            _merge(config, workdir, split, CocoFile.read(path), part)
    workdir.finish("generate")


def label_objects(
    config: mlc.ConfigDict,
    models: list[Params],
    objects: Instances,
    *,
    name: str,
) -> Iterator[tuple[int, Outcome]]:
    """The pseudo mask of each object of this process, or why there is none.

    The device predicts the next batch while threads paste and encode the last one.

    Yields:
        (place among the annotations of the file, outcome), in the order of the file.
    """
    predict = logits_of(config, models)
    waiting: deque[tuple[int, Future[Outcome]]] = deque()
    with ThreadPoolExecutor(max(1, config.data.num_threads)) as pool:
        for rows, logits in _predictions(config, predict, objects, name):
            for row in np.flatnonzero(rows["index"] >= 0):
                index = int(rows["index"][row])
                item = objects[index]
                if rows["valid"][row]:
                    window = Window(*(int(edge) for edge in rows["window"][row]))
                    make = partial(_pseudo_mask, config, item, window, logits[row])
                else:
                    make = partial(_unreadable, objects, index)
                waiting.append((int(objects.position[index]), pool.submit(make)))
            while waiting and (len(waiting) > IN_FLIGHT or waiting[0][1].done()):
                position, made = waiting.popleft()  # logits must not pile up
                yield position, made.result()
        for position, made in waiting:
            yield position, made.result()


def logits_of(config: mlc.ConfigDict, models: list[Params]):
    """A compiled function from a sharded batch to its mask logits."""
    mesh = make_mesh()
    graph = abstract_graph(generator_builder(config, role="generator"))
    compiled = jax.jit(
        partial(
            predict_step, graph, stats=image_stats(config), flip=config.generate.flip
        ),
        out_shardings=split_rows(mesh),
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
    config: mlc.ConfigDict, predict, objects: Instances, name: str
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
) -> Outcome:
    full, mask = pasted_mask(logits, item, window, config.generate.threshold)
    flags = list(item.flags)
    score = confidence(full, mask)
    if not mask.any():
        if config.generate.empty == "skip":
            return Skip(
                item.annotation_id,
                "E301",
                f"Annotation {item.annotation_id!r:.80}: no pixel of the box exceeds "
                f"the threshold {config.generate.threshold}.",
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


def _unreadable(objects: Instances, index: int) -> Skip:
    """Why the image of an object gave no crop."""
    identity = objects[index].annotation_id
    code, why = "E110", "its image has another size than the annotations say."
    try:
        objects.read(int(objects.image[index]))
    except ImageError as error:
        code, why = error.code, str(error)
    except FileNotFoundError as error:
        code, why = "E111", str(error)
    return Skip(identity, code, f"Annotation {identity!r:.80}: {why}")


def _trees(weights: str) -> tuple[str, ...]:
    return {
        "student": ("params",),
        "teacher": ("teacher",),
        "both": ("params", "teacher"),
    }[weights]


def _part(pattern: Path, process: int) -> Path:
    """The file of one process: its outcomes, one per line."""
    return pattern.with_name(pattern.name.format(process))


def _write_part(path: Path, labeled: Iterable[tuple[int, Outcome]]) -> None:
    with whole_file(path) as file:
        for position, outcome in labeled:
            kind, fields = type(outcome).__name__, outcome._asdict()
            file.write(json_text([position, kind, fields]) + "\n")


def _read_part(path: Path) -> Iterator[tuple[int, Outcome]]:
    with path.open(encoding="utf-8") as file:
        yield from map(_read_outcome, file)


def _read_outcome(line: str) -> tuple[int, Outcome]:
    kinds = {"PseudoInstance": PseudoInstance, "Skip": Skip}
    position, kind, fields = json.loads(line)
    return position, kinds[kind](**fields)


def _merge(
    config: mlc.ConfigDict, workdir: Workdir, split: str, source: CocoFile, part: Path
) -> None:
    """Puts the parts of all processes together with what `prepare` left out."""
    parts = [_part(part, process) for process in range(jax.process_count())]
    left_out: list[tuple[int, Outcome]] = [
        (item.position or 0, Skip(item.annotation_id, item.code, item.message))
        for item in read_problems(workdir, split)
    ]
    _refuse_unreadable(config, split, parts)
    made = map(_read_part, parts)
    outcomes = heapq.merge(left_out, *made, key=operator.itemgetter(0))
    folder = workdir.path if split == "train" else workdir / split
    summary = _Summary()
    write_coco(folder, source, summary.watch(outcomes), _info(config, workdir))
    summary.report(folder)
    for path in parts:
        path.unlink()


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


def _refuse_unreadable(config: mlc.ConfigDict, split: str, parts: list[Path]) -> None:
    """Raises, before older masks are replaced, if too many images are gone."""
    limit = 0.0 if config.data.on_bad == "error" else config.data.max_skip_fraction
    total, lost = 0, []
    for path in parts:
        with path.open(encoding="utf-8") as file:
            for line in file:
                total += 1
                if '"Skip"' not in line[:40]:  # masks are parsed once, when merged
                    continue
                position, outcome = _read_outcome(line)
                if isinstance(outcome, Skip) and outcome.code in UNREADABLE:
                    lost.append(Problem(*outcome, position))
    if len(lost) > limit * total:
        raise TooManySkipped(
            f"generate {split}: the images of {len(lost)} of {total} objects cannot be "
            f"read any more, the first: {lost[0].message} More than "
            f"data.max_skip_fraction = {limit:g} allows; no mask was written.",
            lost,
        )


class _Summary:
    """What can be said about the masks without a true one."""

    def __init__(self) -> None:
        self._num_masks = self._num_skipped = 0
        self._sums = np.zeros(4)  # click hits, objects with clicks, box IoU, score

    def watch(
        self, outcomes: Iterable[tuple[int, Outcome]]
    ) -> Iterator[tuple[int, Outcome]]:
        """Passes outcomes on and counts them."""
        for position, outcome in outcomes:
            if isinstance(outcome, PseudoInstance):
                hits = outcome.click_hit
                share = (0.0, 0) if hits is None else (float(np.mean(hits)), 1)
                self._sums += (*share, outcome.box_iou, outcome.score)
                self._num_masks += 1
            else:
                self._num_skipped += 1
            yield position, outcome

    def report(self, folder: Path) -> None:
        """One line about the masks in a folder."""
        path = folder / "pseudo_masks.json"
        if not self._num_masks:
            _logger.warning("%s: no mask was made", path)
            return
        hits, with_clicks, box_iou, score = self._sums
        _logger.info(
            "%s: %d masks, %d skipped; clicks hit %s, box IoU %.3f, confidence %.3f",
            path,
            self._num_masks,
            self._num_skipped,
            f"{hits / with_clicks:.1%}" if with_clicks else "-",
            box_iou / self._num_masks,
            score / self._num_masks,
        )
