"""Phase prepare: check annotations and images, derive extreme points, drop masks."""

import logging
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import ml_collections as mlc
import numpy as np

from exits_jax.data.annotations import Dataset, enforce, read_instances
from exits_jax.data.coco_file import CocoFile
from exits_jax.data.extreme_points import json_points
from exits_jax.data.image_folder import FolderAdvice, advise_on_folder, file_names
from exits_jax.data.images import image_fault
from exits_jax.data.masks import decode_mask
from exits_jax.data.records import AnnotationError, Problem, fault
from exits_jax.data.table import Instances
from exits_jax.data.usable import doubts, nothing_left
from exits_jax.files.json_files import json_text, write_json, write_json_lists
from exits_jax.run.identity import sample_images, stamp
from exits_jax.run.image_names import write_image_names
from exits_jax.run.phase_order import begin
from exits_jax.run.prepared import columns_folder, files_of
from exits_jax.run.sources import find_sources, point_rule
from exits_jax.run.workdir import Workdir
from exits_jax.train.progress import tracked

_logger = logging.getLogger(__name__)


class _Prepared(NamedTuple):
    """A checked split, not yet written."""

    source: CocoFile
    instances: Instances
    skipped: list[Problem]
    counts: dict[str, int]


def run(config: mlc.ConfigDict, workdir: Workdir) -> None:
    """Writes `annotations/{train,val}.json`: extreme points and boxes, never a mask.

    The same objects stand as columns in `annotations/{train,val}_columns`, which the
    phases after this one read. What is left out stands in
    `annotations/{train,val}_skipped.json` with its reason. Nothing is written before
    every split has been checked.
    """
    if not begin(config, workdir, "prepare"):
        return
    sources = find_sources(config, workdir.path)
    files = {split: source.annotations for split, source in sources.items()}
    stamps = {split: stamp(path) for split, path in files.items() if path.is_file()}
    splits = {
        split: _prepare_split(config, split, source.annotations, source.images)
        for split, source in sources.items()
    }
    folder = workdir / "annotations"
    for split, made in splits.items():
        images = sources[split].images
        write_image_names(workdir, split, made.source, made.instances, images)
        write_json_lists(
            folder / f"{split}.json",
            {**made.source.rest, "categories": made.source.categories},
            {
                "images": map(json_text, made.source.images),
                "annotations": _bare_records(made.source, made.instances),
            },
        )
        _save_columns(made.instances, workdir, split)
        write_json(
            folder / f"{split}_skipped.json", [item._asdict() for item in made.skipped]
        )
    workdir.finish(
        "prepare",
        sealing=[path for split in splits for path in files_of(workdir, split)],
        images={split: workdir.keep(s.images) for split, s in sources.items()},
        sources={split: workdir.keep(path) for split, path in files.items()},
        stamps=stamps,
        samples={
            split: sample_images(workdir, made.instances)
            for split, made in splits.items()
        },
        counts={split: made.counts for split, made in splits.items()},
    )


def check_split(
    config: mlc.ConfigDict, path: Path, folder: Path, split: str = "train"
) -> Dataset:
    """The objects of a file whose record and image are sound, and the problems.

    Every annotation of the file is an instance or skipped, never both.

    Raises:
        AnnotationError: If the file cannot be used, or none of its images is there
            (E111).
        FileNotFoundError: If the file or the folder does not exist.
    """
    source = CocoFile.read(path)
    if not len(source.annotations):
        raise fault("E103", f"{path} holds no annotation, so there is nothing to do.")
    if not folder.is_dir():
        raise FileNotFoundError(_advice(config, source, folder, split).text)
    found = read_instances(
        source,
        folder,
        max_skip_fraction=1.0,
        points_of=point_rule(config),
        follow_links=config.data.follow_links,
    )
    if any(problem.code == "E111" for problem in found.skipped):
        advice = _advice(config, source, folder, split)
        if not advice.found:
            raise fault("E111", f"{path}: {advice.text}")
        if advice.elsewhere:
            _logger.warning("%s", advice.text)
    kept, bad_images = check_images(found.instances, full=config.data.verify_images)
    kept, bare_crowds = _check_crowds(kept, source)
    skipped = found.skipped + bad_images + bare_crowds
    return Dataset(
        source,
        kept,
        sorted(skipped, key=lambda item: item.position or 0),
        found.remarks,
    )


def _advice(
    config: mlc.ConfigDict, source: CocoFile, folder: Path, split: str
) -> FolderAdvice:
    """Where the images of a split are, if they are not all in their folder."""
    field = {"train": "data.images", "val": "data.val_images"}[split]
    names = file_names(source.images, folder)
    return advise_on_folder(names, folder, field=field if config.data.train else "")


def _prepare_split(
    config: mlc.ConfigDict, split: str, path: Path, folder: Path
) -> _Prepared:
    source, kept, skipped, remarks = check_split(config, path, folder, split)
    data, total = config.data, len(source.annotations)
    strict = data.on_bad == "error"
    try:
        faults = skipped + remarks if strict else skipped
        enforce(faults, total, str(path), data.on_bad, data.max_skip_fraction)
    except AnnotationError as error:
        advice = (
            "Set --config.data.on_bad=skip to go on without them."
            if strict
            else "Set --config.data.max_skip_fraction to allow it."
        )
        raise type(error)(f"{error}\n{advice}", error.problems) from None
    is_crowd, has_points = kept.is_crowd, kept.has_points
    if is_crowd.all():
        raise nothing_left(kept, path)
    sums = {
        "objects": int(np.count_nonzero(~is_crowd)),
        "with_points": int(np.count_nonzero(has_points & ~is_crowd)),
        "crowds": int(np.count_nonzero(is_crowd)),
        "skipped": len(skipped),
    }
    _logger.info(
        "%s: %d objects (%d with extreme points), %d crowd regions, %d skipped",
        split,
        *sums.values(),
    )
    for line in doubts(source, kept, path):
        _logger.warning("  %s", line)
    for problem in remarks[:5]:
        _logger.warning("  remark: %s", problem.message)
    for problem in skipped[:5]:
        _logger.warning("  skipped: %s", problem.message)
    return _Prepared(source, kept, skipped, sums)


def _bare_records(source: CocoFile, instances: Instances) -> Iterator[str]:
    """The records as JSON texts, with extreme points and without masks."""
    for row, position in enumerate(instances.position.tolist()):
        record = source.annotations[position]
        record.pop("segmentation", None)
        if instances.has_points[row] and not record.get("extreme_points"):
            record["extreme_points"] = json_points(instances.points[row])
        yield json_text(record)


def _save_columns(instances: Instances, workdir: Workdir, split: str) -> None:
    """Writes the columns as a whole folder."""
    folder = columns_folder(workdir, split)
    temporary = folder.with_name(f".{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    instances.save(temporary, inside=workdir.path)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def _check_crowds(
    instances: Instances, source: CocoFile
) -> tuple[Instances, list[Problem]]:
    """Leaves out crowd regions without a usable mask: they have nothing to pass on."""
    problems: dict[int, Problem] = {}
    for row in np.flatnonzero(instances.is_crowd).tolist():
        item, position = instances[row], int(instances.position[row])
        mask = source.annotations[position].get("segmentation")
        image = source.images[int(instances.image_position[instances.image[row]])]
        try:
            decode_mask(mask, *item.image_size)
            sized = image.get("height") is not None and image.get("width") is not None
            if isinstance(mask, list) and not sized:
                raise fault("E207", "Its polygons need the image's width, height.")
        except AnnotationError as error:
            message = (
                f"Annotation {item.annotation_id!r:.80}: this crowd region has no "
                f"usable mask to pass on. {error}"
            )
            problems[row] = Problem(item.annotation_id, "E207", message, position)
    return _without(instances, problems)


def check_images(
    instances: Instances, *, full: bool
) -> tuple[Instances, list[Problem]]:
    """Splits the objects by whether their image can be read and has the stated size."""

    def look_for_fault(image: int) -> tuple[str, str] | None:
        height, width = instances.image_sizes[image].tolist()
        return image_fault(instances.paths[image], (height, width), full=full)

    rows = range(len(instances.paths))
    shown = partial(tracked, name="checking", total=len(rows), unit="image")
    if full:  # decoding runs side by side; headers only pass the interpreter's lock on
        with ThreadPoolExecutor() as pool:
            looked = list(shown(pool.map(look_for_fault, rows)))
    else:
        looked = list(shown(map(look_for_fault, rows)))
    is_bad = np.array([found is not None for found in looked], bool)
    problems: dict[int, Problem] = {}
    for row in np.flatnonzero(is_bad[instances.image]).tolist():
        code, why = looked[instances.image[row]] or ("", "")
        identity, position = instances[row].annotation_id, int(instances.position[row])
        message = f"Annotation {identity!r:.80}: {why}"
        problems[row] = Problem(identity, code, message, position)
    return _without(instances, problems)


def _without(
    instances: Instances, problems: dict[int, Problem]
) -> tuple[Instances, list[Problem]]:
    """The other rows, and the problems."""
    if not problems:
        return instances, []
    is_kept = np.ones(len(instances), bool)
    is_kept[list(problems)] = False
    return instances.select(is_kept), list(problems.values())
