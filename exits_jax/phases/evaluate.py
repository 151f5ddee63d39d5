"""Phase evaluate: pseudo masks against true ones, beside masks that cost nothing."""

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import ml_collections as mlc
import numpy as np

from exits_jax.data.annotations import enforce
from exits_jax.data.coco_file import ById, CocoFile, Records
from exits_jax.data.images import ImageError
from exits_jax.data.masks import decode_mask
from exits_jax.data.records import AnnotationError, Instance, Problem
from exits_jax.data.table import Instances
from exits_jax.evaluation import iou
from exits_jax.evaluation.baselines import box_mask, grabcut_mask, octagon_mask
from exits_jax.evaluation.listed_objects import ObjectLists, object_lists
from exits_jax.evaluation.pictures import draw_pictures, spread
from exits_jax.evaluation.point_quality import (
    finder,
    point_quality,
    points_in_words,
    pseudo_mask_of,
)
from exits_jax.evaluation.reliability import reliability
from exits_jax.evaluation.scores import scored, scores_in_words
from exits_jax.evaluation.verdict import OCTAGON, verdict
from exits_jax.files.json_files import write_json
from exits_jax.labeling.label import Models, label_objects
from exits_jax.labeling.model_source import walk_encoder
from exits_jax.labeling.part_files import part_size
from exits_jax.labeling.plan import in_blocks
from exits_jax.labeling.pseudo_masks import PseudoInstance, refuse_damaged
from exits_jax.models.params import Params
from exits_jax.run.from_config import (
    WALK_ALONE,
    WALK_THRESHOLD,
    method_name,
    uses_generator,
    uses_stored_labels,
    uses_walk,
    walk_options,
)
from exits_jax.run.identity import annotation_files, refuse_other
from exits_jax.run.phase_order import begin
from exits_jax.run.prepared import instances
from exits_jax.run.workdir import ConfigError, Workdir
from exits_jax.train.progress import Progress, tracked
from exits_jax.train.sharding import make_mesh, replicate

Masks = Mapping[int | str, Any]  # RLE by annotation
LEGEND = (
    "Separated objects show two or more parts.\n"
    "Clicks are hit by a mask within 2 px or 2 % of the longer side of the box. Box as "
    "mask, the octagon\n(which never looks at the image) and GrabCut need no training: "
    "masks have to be better.\nMeans over classes: evaluation.json."
)
OURS = "EXITS"
_logger = logging.getLogger(__name__)


class Measured(NamedTuple):
    """One object and how well the mask of each method fits it."""

    row: int  # among the objects of the split
    methods: dict[str, iou.EvaluatedObject]

    @property
    def ours(self) -> iou.EvaluatedObject:
        """The object with the mask of the run."""
        return self.methods[OURS]


def run(config: mlc.ConfigDict, workdir: Workdir) -> None:
    """Writes `evaluation.json` and the contact sheet; prints the table.

    Every true mask counts: an object without a pseudo mask has IoU 0. Crowd regions,
    what `prepare` left out and objects with a side of `data.min_side_px` or less do
    not count, nor with `data.on_bad=skip` those whose image is needed and cannot be
    read any more. On several processes the first does all of this.

    Raises:
        TooManySkipped: Their share exceeds `data.max_skip_fraction`.
    """
    if not begin(config, workdir, "evaluate"):
        return
    find = finder(config, workdir)
    encoder = walk_encoder(config, workdir) if _has_walk(config) else None
    if jax.process_index() != 0:
        return
    sources = annotation_files(workdir)
    split = _split(config, sources)
    folder = workdir.path if split == "train" else workdir / split
    made = _pseudo_masks(folder)
    pseudo = ById(made, "segmentation")
    objects = instances(config, workdir, split)
    sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
    objects = objects.select(sides.min(axis=1) > config.data.min_side_px)
    covers_box = _share_of_boxes(made, objects)
    refuse_other(workdir, split)
    source = CocoFile.read(sources[split])
    truth = ById(source.annotations, "segmentation")
    others = {}
    if encoder is not None:
        others[WALK_ALONE] = _walk_masks(config, encoder, objects, split)
    lists = object_lists(config, source, objects)
    measured = _measure(config, objects, truth, pseudo, others, lists)
    if measured:
        rows = np.array([found.row for found in measured])
        some = objects.select(spread(rows, config.evaluate.num_points))
        points = point_quality(config, find, some, truth)
        judged = ((objects[found.row], found.ours.iou) for found in measured)
        scores = reliability(scored(made, judged))
        summaries = _summaries(measured)
        _write_summary(config, workdir, split, summaries, points, covers_box, scores)
        by_models = _by_models(source)
        _judge_measured(config, measured, summaries, points, covers_box, by_models)
    else:
        _logger.info("%s has no true masks: nothing to compare with", sources[split])
        found = {"split": split, "all": None, "reliability": None}
        found["covers_box"] = covers_box
        write_json(workdir / "evaluation.json", found, indent=2)
        _judge_all(config, None, {}, covers_box, {})
    ours = [found.ours for found in measured]
    ious = {item.annotation_id: item.iou for item in ours}
    separated = {item.annotation_id for item in ours if item.is_separated}
    draw_pictures(
        config,
        workdir,
        find,
        objects,
        pseudo,
        truth,
        ious,
        separated,
        split=split,
        classes={kind["id"]: str(kind.get("name", "")) for kind in source.categories},
    )
    workdir.finish("evaluate")


def _has_walk(config: mlc.ConfigDict) -> bool:
    """Whether the walk can be judged beside what was trained with it."""
    walks = uses_walk(config) or uses_stored_labels(config)
    return walks and uses_generator(config)


def _walk_masks(
    config: mlc.ConfigDict, encoder: Params, objects: Instances, split: str
) -> dict[int | str, dict]:
    """Masks of the walk alone, by annotation, refined as the others are."""
    alone = config.copy_and_resolve_references()
    alone.generate.source, alone.generate.threshold = "walk", WALK_THRESHOLD
    mesh = make_mesh(devices=jax.local_devices())
    models = Models([], replicate(mesh, encoder), walk_options(config))
    name = f"walk alone {split}"
    with Progress(name, total=len(objects), unit="mask", warm_up=1) as progress:
        progress.doing("compiling")
        made = label_objects(
            alone,
            mesh,
            models,
            objects,
            in_blocks(len(objects), part_size(config)),
            on_start=progress.advance,
        )
        outcomes = [outcome for _, outcome in made]
    return {
        found.annotation_id: found.rle
        for found in outcomes
        if isinstance(found, PseudoInstance)
    }


def _split(config: mlc.ConfigDict, sources: Mapping[str, Path]) -> str:
    """The validation split where there is one that has masks, else the other."""
    labeled = [name for name in ("val", "train") if name in config.generate.splits]
    found = [name for name in labeled if name in sources]
    if not found:
        raise ConfigError(
            f"generate.splits = {config.generate.splits!r} names no split of this run, "
            f"which has {', '.join(sources)}: there is no mask to evaluate."
        )
    return found[0]


def _write_summary(
    config: mlc.ConfigDict,
    workdir: Workdir,
    split: str,
    summaries: dict[str, iou.Summary],
    points: dict[str, float],
    covers_box: float,
    scores: dict[str, Any],
) -> None:
    floors = {
        method.lower().replace(" ", "_"): summary
        for method, summary in summaries.items()
        if method != OURS
    }
    threshold = config.generate.threshold
    write_json(
        workdir / "evaluation.json",
        {
            **summaries[OURS],
            "floors": floors,
            "points": points,
            "covers_box": covers_box,
            "reliability": scores,
            "split": split,
            "method": config.loss.method if uses_generator(config) else "walk",
            "mask_source": config.generate.source,
            "mask_threshold": threshold,
            "size_by": config.evaluate.size_by,
        },
        indent=2,
    )
    name = method_name(config)
    _logger.info(
        "masks of %s at threshold %g against the true ones:\n%s\n%s",
        split,
        threshold,
        iou.format_table({(name if k == OURS else k): v for k, v in summaries.items()}),
        f"Sizes are COCO's, by the area of the {config.evaluate.size_by}. {LEGEND}",
    )
    _logger.info("%s", scores_in_words(scores))
    if points:
        _logger.info("%s", points_in_words(points, are_learnt=uses_generator(config)))


def _summaries(measured: list[Measured]) -> dict[str, iou.Summary]:
    return {
        method: iou.summarize([found.methods[method] for found in measured])
        for method in measured[0].methods
    }


def _by_models(source: CocoFile) -> set[int | str]:
    """Annotations whose mask a model made: it has a score of `exits_jax`."""
    info = source.rest.get("info")
    if not (isinstance(info, dict) and "exits_jax" in info):
        return set()
    marks = ById(source.annotations, "exits").items()
    return {each for each, mark in marks if isinstance(mark, dict) and "score" in mark}


def _judge_measured(
    config: mlc.ConfigDict,
    measured: list[Measured],
    summaries: dict[str, iou.Summary],
    points: dict[str, float],
    covers_box: float,
    by_models: set[int | str],
) -> None:
    """Says what is wrong with the masks; a model's own masks are no judge of it."""
    floors = {name: found for name, found in summaries.items() if name != OURS}
    count = sum(found.ours.annotation_id in by_models for found in measured)
    if count:
        _logger.info(
            "%d of these %d true masks were made by a model themselves, as `exits-jax "
            "annotate` writes them: masks of that model, or like it, look better here "
            "than they are.",
            count,
            len(measured),
        )
        floors.pop(WALK_ALONE, None)
    _judge_all(config, summaries[OURS], floors, covers_box, points)


def _judge_all(
    config: mlc.ConfigDict,
    ours: iou.Summary | None,
    floors: dict[str, iou.Summary],
    covers_box: float,
    points: dict[str, float],
) -> None:
    said = verdict(config, ours, floors, covers_box=covers_box, points=points)
    if said is not None:
        _logger.warning("%s", said)


def _measure(
    config: mlc.ConfigDict,
    objects: Instances,
    truth: ById,
    pseudo: ById,
    others: Mapping[str, Masks],
    lists: ObjectLists,
) -> list[Measured]:
    """Every object that has a true mask, image by image: each decoded once."""
    has_clicks = bool(objects.has_points.any())
    gone: list[Problem] = []

    def measure_image(rows: np.ndarray) -> tuple[list[Measured], int]:
        try:
            return measure_objects(rows)
        except (ImageError, FileNotFoundError) as error:
            if config.data.on_bad == "error":
                raise
            code = getattr(error, "code", "E111")
            ids = (objects[row].annotation_id for row in rows.tolist())
            gone.extend(Problem(identity, code, str(error)) for identity in ids)
            return [], 0

    def measure_objects(rows: np.ndarray) -> tuple[list[Measured], int]:
        image, found, num_unreadable = None, [], 0
        for row in rows.tolist():
            item = objects[row]
            if item.annotation_id not in truth:
                continue
            try:
                true_mask = decode_mask(truth[item.annotation_id], *item.image_size)
            except AnnotationError:
                num_unreadable += 1  # an unreadable true mask cannot be compared
                continue
            masks = {
                OURS: pseudo_mask_of(pseudo, item),
                **{name: pseudo_mask_of(masks, item) for name, masks in others.items()},
                "box as mask": box_mask(item.box, item.image_size),
            }
            if has_clicks:
                points, box, size = item.extreme_points, item.box, item.image_size
                masks[OCTAGON] = octagon_mask(points, box, size)
            if config.evaluate.grabcut:
                if image is None:
                    image = objects.read(int(objects.image[row]))
                masks["GrabCut"] = grabcut_mask(image, item.box)
            found.append(_judge(config, row, item, true_mask, masks, lists))
        return found, num_unreadable

    order = np.argsort(objects.image, kind="stable")
    starts = np.flatnonzero(np.diff(objects.image[order])) + 1
    images = np.split(order, starts)
    with ThreadPoolExecutor() as pool:
        made = pool.map(measure_image, images)
        name = "comparing masks"
        results = list(tracked(made, name, total=len(images), unit="image"))
    measured = [found for each, _ in results for found in each]
    num_unreadable = sum(count for _, count in results)
    if num_unreadable:
        _logger.warning(
            "%d of %d true masks cannot be read: their objects are not evaluated",
            num_unreadable,
            num_unreadable + len(measured),
        )
    if gone:
        name, limit = "evaluate", config.data.max_skip_fraction
        enforce(gone, len(objects), name, config.data.on_bad, limit)
        _logger.warning(
            "the images of %d of %d objects cannot be read any more: these are not "
            "evaluated; of the first: %s",
            len(gone),
            len(objects),
            gone[0].message,
        )
    return measured


def _judge(
    config: mlc.ConfigDict,
    row: int,
    item: Instance,
    true_mask: np.ndarray,
    masks: dict[str, np.ndarray],
    lists: ObjectLists,
) -> Measured:
    described = iou.described(
        item.annotation_id,
        item.category_id,
        true_mask,
        item.box,
        size_by=config.evaluate.size_by,
        separated_ids=lists.separated,
        occluded_ids=lists.occluded,
    )
    against = true_mask, item.extreme_points, item.box
    methods = {
        name: iou.judged(described, mask, *against) for name, mask in masks.items()
    }
    return Measured(row, methods)


def _share_of_boxes(made: Records, objects: Instances) -> float:
    """Share of the objects' masks that are flagged to fill their whole box."""
    remarks = ById(made, "exits")
    ids = (objects[row].annotation_id for row in range(len(objects)))
    found = [remarks[each].get("flags", ()) for each in ids if each in remarks]
    return sum("covers_box" in flags for flags in found) / max(1, len(found))


def _pseudo_masks(folder: Path) -> Records:
    """The records of `pseudo_masks.json`.

    Raises:
        Damaged: If the file is not the one that `generate` wrote.
        FileNotFoundError: If there is none.
    """
    path = folder / "pseudo_masks.json"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: run `exits-jax generate` first.")
    refuse_damaged(folder)
    return CocoFile.read(path).annotations
