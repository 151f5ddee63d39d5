"""Phase prepare: check annotations and images, derive extreme points, drop masks."""

import json
import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections as mlc

from exits_jax.data.annotations import (
    AnnotationError,
    Instance,
    Problem,
    fault,
    is_id,
    read_instances,
    read_source,
)
from exits_jax.data.extreme_points import decode_mask, prepare_annotations
from exits_jax.data.images import ImageError, check_image
from exits_jax.data.scenes import draw_scenes
from exits_jax.export.evaluation import write_json
from exits_jax.phases.order import begin
from exits_jax.phases.workdir import ConfigError, Workdir

_logger = logging.getLogger(__name__)


class _Prepared(NamedTuple):
    """A checked split, not yet written."""

    annotations: dict[str, Any]
    skipped: list[Problem]
    counts: dict[str, int]


def run(config: mlc.ConfigDict, workdir: Workdir) -> None:
    """Writes `annotations/{train,val}.json`: extreme points and boxes, never a mask.

    What is left out stands in `annotations/{train,val}_skipped.json` with its reason.
    Nothing is written before every split has been checked.
    """
    if not begin(config, workdir, "prepare"):
        return
    sources = _sources(config, workdir)
    images = {split: str(folder) for split, (_, folder) in sources.items()}
    splits = {
        split: _prepare_split(config, workdir, split, annotations, folder)
        for split, (annotations, folder) in sources.items()
    }
    for split, made in splits.items():
        write_json(workdir / "annotations" / f"{split}.json", made.annotations)
        write_json(
            workdir / "annotations" / f"{split}_skipped.json",
            [problem._asdict() for problem in made.skipped],
        )
    workdir.finish(
        "prepare",
        images=images,
        sources={split: str(path) for split, (path, _) in sources.items()},
        counts={split: made.counts for split, made in splits.items()},
    )


def _sources(config: mlc.ConfigDict, workdir: Workdir) -> dict[str, tuple[Path, Path]]:
    """Annotation file and image folder of each split."""
    data = config.data
    if data.scenes.num_train:
        folder = workdir / "scenes"
        _logger.info("drawing %d scenes", data.scenes.num_train + data.scenes.num_val)
        draw_scenes(
            folder,
            num_train=data.scenes.num_train,
            num_val=data.scenes.num_val,
            seed=config.seed,
        )
        splits = ("train", "val") if data.scenes.num_val else ("train",)
        return {split: (folder / f"{split}.json", folder / split) for split in splits}
    if not data.train or not data.images:
        raise ConfigError(
            "data.train (a COCO instances JSON) and data.images (its image folder) are "
            "needed: --config.data.train=FILE --config.data.images=FOLDER"
        )
    sources = {"train": (Path(data.train), Path(data.images))}
    if data.val:
        sources["val"] = (Path(data.val), Path(data.val_images or data.images))
    return sources


def _prepare_split(
    config: mlc.ConfigDict, workdir: Workdir, split: str, path: Path, folder: Path
) -> _Prepared:
    source = read_source(path)
    if not source["annotations"]:
        raise AnnotationError(f"{path} holds no annotation, so there is nothing to do.")
    prepared, problems = prepare_annotations(
        source, mode=config.data.points, name=str(path)
    )
    draft = workdir / f".{split}.draft.json"
    try:
        write_json(draft, prepared)
        found = read_instances(draft, folder, on_bad="skip", max_skip_fraction=1.0)
    finally:
        draft.unlink(missing_ok=True)
    kept, bad_images = _check_images(found.instances, full=config.data.verify_images)
    problems += found.skipped + bad_images
    _enforce(problems, len(source["annotations"]), config, path)
    kept, bare_crowds = _check_crowds(kept, source)

    kept_ids = {item.annotation_id for item in kept}
    counts = Counter(_identity(record) for record in source["annotations"])
    # Such a record lost its mask, not its box: it is used, so it is not skipped.
    is_remark = lambda p: p.annotation_id in kept_ids and counts[p.annotation_id] == 1
    remarks = [problem for problem in problems if is_remark(problem)]
    skipped = [problem for problem in problems if not is_remark(problem)] + bare_crowds
    seen: set[Any] = set()
    records = []
    for record in prepared["annotations"]:
        if _identity(record) in kept_ids - seen:
            seen.add(record["id"])
            records.append(record)
    sums = {
        "objects": sum(not item.is_crowd for item in kept),
        "with_points": sum(item.extreme_points is not None for item in kept),
        "crowds": sum(item.is_crowd for item in kept),
        "skipped": len(skipped),
    }
    _logger.info(
        "%s: %d objects (%d with extreme points), %d crowd regions, %d skipped",
        split,
        *sums.values(),
    )
    for problem in remarks[:5]:
        _logger.warning("  remark: %s", problem.message)
    for problem in skipped[:5]:
        _logger.warning("  skipped: %s", problem.message)
    return _Prepared({**prepared, "annotations": records}, skipped, sums)


def _check_crowds(
    items: list[Instance], source: dict[str, Any]
) -> tuple[list[Instance], list[Problem]]:
    """Leaves out crowd regions without a usable mask: they have nothing to pass on."""
    crowds = {item.annotation_id for item in items if item.is_crowd}
    masks: dict[Any, Any] = {}
    for record in source["annotations"]:
        if (identity := _identity(record)) in crowds:
            masks.setdefault(identity, record.get("segmentation"))
    sized = {
        image["id"]
        for image in source["images"]
        if image.get("height") is not None and image.get("width") is not None
    }
    kept, problems = [], []
    for item in items:
        if item.is_crowd:
            mask = masks[item.annotation_id]
            try:
                decode_mask(mask, *item.image_size)
                if isinstance(mask, list) and item.image_id not in sized:
                    raise fault("E207", "Its polygons need the image's width, height.")
            except AnnotationError as error:
                message = (
                    f"Annotation {item.annotation_id}: this crowd region has no usable "
                    f"mask to pass on. {error}"
                )
                problems.append(Problem(item.annotation_id, "E207", message))
                continue
        kept.append(item)
    return kept, problems


def _identity(record: Any) -> int | str | None:
    """The id of a record as it comes; None if it has no usable one."""
    identity = record.get("id") if isinstance(record, dict) else None
    return identity if is_id(identity) else None


def _check_images(
    items: list[Instance], *, full: bool
) -> tuple[list[Instance], list[Problem]]:
    """Splits the objects by whether their image can be read and has the stated size."""
    sizes = {item.image_path: item.image_size for item in items}

    def look_for_fault(path: str) -> tuple[str, str] | None:
        try:
            size = check_image(path, full=full)
        except (ImageError, FileNotFoundError) as error:
            return "E113", str(error)
        if size != sizes[path]:
            return "E110", (
                f"{path} is {size[1]}x{size[0]} px, but the annotations say "
                f"{sizes[path][1]}x{sizes[path][0]}: the points are in another frame."
            )
        return None

    with ThreadPoolExecutor() as pool:
        faults = dict(zip(sizes, pool.map(look_for_fault, sizes), strict=True))
    kept, problems = [], []
    for item in items:
        found = faults[item.image_path]
        if found is None:
            kept.append(item)
        else:
            code, why = found
            message = f"Annotation {item.annotation_id}: {why}"
            problems.append(Problem(item.annotation_id, code, message))
    return kept, problems


def _enforce(
    problems: list[Problem], total: int, config: mlc.ConfigDict, path: Path
) -> None:
    """Raises if the policy does not allow to go on without the bad records."""
    if not problems:
        return
    share = len(problems) / total
    if config.data.on_bad == "skip" and share <= config.data.max_skip_fraction:
        return
    shown = "\n  ".join(problem.message for problem in problems[:20])
    more = f"\n  and {len(problems) - 20} more" if len(problems) > 20 else ""
    if config.data.on_bad == "error":
        advice = "Set --config.data.on_bad=skip to go on without them."
    else:
        limit = config.data.max_skip_fraction
        advice = f"That is more than data.max_skip_fraction = {limit}."
    raise AnnotationError(
        f"{len(problems)} of {total} annotations of {path} cannot be used:\n"
        f"  {shown}{more}\n{advice}"
    )


def read_problems(workdir: Workdir, split: str) -> list[Problem]:
    """What `run` left out of a split."""
    rows = json.loads((workdir / "annotations" / f"{split}_skipped.json").read_text())
    return [Problem(**row) for row in rows]
