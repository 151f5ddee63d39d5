"""Reads a training set as a config would, and counts what would not be learnt from.

A detector that ignores half of its objects trains without a word. The commonest way:
`poly2mask=False`, under which mmdet ignores every RLE mask.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from mmdet.registry import DATASETS, MODELS, TRANSFORMS
from mmengine.config import Config
from pycocotools import mask as coco_mask

from exits_jax.stage2.errors import Stage2Error
from exits_jax.stage2.inputs.annotations import CocoJson

_SHOWN = 3  # examples in a message
_LOADER = "LoadAnnotations"


class Counts(NamedTuple):
    """What a config's training pipeline makes of a file; images and objects."""

    images: int
    used_images: int
    objects: int  # without crowd regions
    crowd: int  # ignored by design
    read: int  # objects whose mask the loader takes, pixel by pixel
    dropped: int  # not in the data set at all: no area, box outside, unknown class
    filtered: int  # objects of images that `filter_cfg` leaves out
    ignored: int  # there, but not learnt from
    changed: int  # masks that do not have the pixels of the file

    def line(self) -> str:
        """One line for the terminal."""
        return (
            f"{self.read} of {self.objects} objects on {self.used_images} of "
            f"{self.images} images are learnt from ({self.dropped} dropped, "
            f"{self.filtered} filtered, {self.ignored} ignored, {self.changed} with "
            f"other pixels); {self.crowd} crowd regions are ignored"
        )


def check_training_set(config: Config, coco: CocoJson, *, samples: int = 16) -> Counts:
    """Passes every object through the data set and the annotation loader of `config`.

    Besides, `samples` images go through the whole pipeline, so that a transform that
    fails does so before the training.

    Args:
        config: Complete, as by `fill`.
        coco: The training file that it names.
        samples: How many images.

    Raises:
        Stage2Error: If an object would be dropped, filtered out or ignored, or its mask
            would have other pixels; with the counts and the first ids.
    """
    counts, examples = count(config, coco)
    faults = {
        name: getattr(counts, name)
        for name in ("dropped", "filtered", "ignored", "changed")
        if getattr(counts, name)
    }
    if faults:
        said = [
            f"{number} {name} (id {', '.join(map(str, examples[name][:_SHOWN]))})"
            for name, number in faults.items()
        ]
        raise Stage2Error(
            f"{coco.path}: of {counts.objects} objects, {'; '.join(said)}. They would "
            f"not be learnt from.{_advice(config, faults)}"
        )
    _run_pipeline(config, samples)
    return counts


def count(config: Config, coco: CocoJson) -> tuple[Counts, dict[str, list[Any]]]:
    """The counts, and ids of the objects behind each of them."""
    settings = inner_dataset(config.train_dataloader.dataset)
    loader = _loader(settings["pipeline"])
    dataset = DATASETS.build({**settings, "pipeline": [], "lazy_init": True})
    dataset.data_list = dataset.load_data_list()
    used = {info["img_id"] for info in dataset.filter_data()}
    by_image: dict[Any, list[Mapping[str, Any]]] = {}
    for record in coco.annotations:
        by_image.setdefault(record["image_id"], []).append(record)
    found: dict[str, list[Any]] = {
        name: [] for name in ("read", "dropped", "filtered", "ignored", "changed")
    }
    for info in dataset.data_list:
        records = by_image.get(info["img_id"], [])
        for record, fate in _fates(loader, info, records, info["img_id"] in used):
            found[fate].append(record["id"])
    crowd = sum(bool(record.get("iscrowd")) for record in coco.annotations)
    counts = Counts(
        images=len(coco.images),
        used_images=len(used),
        objects=len(coco.annotations) - crowd,
        crowd=crowd,
        **{name: len(ids) for name, ids in found.items()},
    )
    return counts, found


def check_model(config: Config) -> None:
    """Raises Stage2Error if the model of the config cannot be built."""
    try:
        MODELS.build(config.model)
    except Exception as error:  # whatever a part of a user's model raises
        raise Stage2Error(
            f"The model of the config cannot be built: {type(error).__name__}: {error}"
        ) from error


def inner_dataset(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """The data set that reads the file, below the wrappers that repeat or mix it."""
    while "ann_file" not in settings:
        below = settings.get("dataset") or (settings.get("datasets") or [None])[0]
        if below is None:
            raise Stage2Error(
                f"The training data of the config, a {settings.get('type')}, reads no "
                "annotation file."
            )
        settings = below
    return settings


def _loader(pipeline: Sequence[Mapping[str, Any]]) -> Any:
    for step in pipeline:
        if step["type"] == _LOADER and step.get("with_mask"):
            return TRANSFORMS.build(dict(step))
    raise Stage2Error(
        f"The training pipeline of the config has no {_LOADER} with with_mask=True: it "
        "would train without masks."
    )


def _fates(
    loader: Any,
    info: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    is_used: bool,
) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Each object of an image, without crowd regions, and what becomes of it."""
    taken = _instances_of(records, info["instances"])
    there = [
        (record, instance)
        for record, instance in zip(records, taken)
        if instance is not None and not record.get("iscrowd")
    ]
    for record, instance in zip(records, taken):
        if instance is None and not record.get("iscrowd"):
            yield record, "dropped"
    if not there:
        return
    if not is_used:
        yield from ((record, "filtered") for record, _ in there)
        return
    shape = (info["height"], info["width"])
    inputs = {
        "ori_shape": shape,
        "img_shape": shape,
        "instances": [dict(instance) for _, instance in there],
    }
    try:
        loaded = loader.transform(inputs)
    except (AssertionError, ValueError, TypeError):  # masks of another size
        yield from ((record, "changed") for record, _ in there)
        return
    for k, (record, _) in enumerate(there):
        if loaded["gt_ignore_flags"][k]:
            yield record, "ignored"
        else:
            same = int(loaded["gt_masks"].masks[k].sum()) == _pixels(record, *shape)
            yield record, "read" if same else "changed"


def _instances_of(
    records: Sequence[Mapping[str, Any]], instances: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any] | None]:
    """What the data set made of each record; it keeps the order and leaves some out."""
    waiting = list(reversed(instances))
    taken: list[Mapping[str, Any] | None] = []
    for record in records:
        x, y, w, h = record["bbox"]
        is_next = (
            waiting
            and waiting[-1]["bbox"] == [x, y, x + w, y + h]
            and waiting[-1].get("mask") == record.get("segmentation")
        )
        taken.append(waiting.pop() if is_next else None)
    return taken


def _pixels(record: Mapping[str, Any], height: int, width: int) -> int:
    mask = record["segmentation"]
    if isinstance(mask, list):
        mask = coco_mask.merge(coco_mask.frPyObjects(mask, height, width))
    elif isinstance(mask["counts"], list):
        mask = coco_mask.frPyObjects(mask, *mask["size"])
    return int(coco_mask.area(mask))


def _run_pipeline(config: Config, samples: int) -> None:
    dataset = DATASETS.build(inner_dataset(config.train_dataloader.dataset))
    places = np.unique(np.linspace(0, len(dataset) - 1, samples).astype(int))
    for place in places.tolist():
        info = dataset.get_data_info(place)
        try:
            dataset.pipeline(info)
        except Exception as error:  # whatever a transform of the user's config raises
            raise Stage2Error(
                f"The training pipeline of the config fails on {info['img_path']}: "
                f"{type(error).__name__}: {error}"
            ) from error


def _advice(config: Config, faults: Mapping[str, int]) -> str:
    loader = _loader(inner_dataset(config.train_dataloader.dataset)["pipeline"])
    if "ignored" in faults and not loader.poly2mask:
        return " LoadAnnotations(poly2mask=False) ignores RLE masks: set it to True."
    if "filtered" in faults:
        return (
            " The data set's filter_cfg leaves out their images: min_size is too high."
        )
    return ""
