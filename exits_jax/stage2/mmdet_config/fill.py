"""Completes an mmdet config: files, classes, schedule, initial weights, outputs."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmdet.datasets import CocoDataset, CocoPanopticDataset, LVISV05Dataset
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config

from exits_jax.stage2.errors import Stage2Error
from exits_jax.stage2.mmdet_config.initial import fill_initial_weights
from exits_jax.stage2.mmdet_config.nodes import accepts, class_of, nodes, type_name
from exits_jax.stage2.mmdet_config.schedule import fill_schedule

DETECTIONS = "detections"  # in the workdir; mmdet appends .segm.json


def fill(
    config: Config,
    *,
    train: str | Path,
    images: str | Path,
    val: str | Path,
    val_images: str | Path,
    classes: Sequence[str],
    workdir: str | Path,
    init: str | None = None,
    epochs: int | None = None,
    iterations: int | None = None,
) -> Config:
    """Returns a copy of an mmdet config that is complete for `Runner.from_cfg`.

    Works on any config of an instance segmentation model with a training set in COCO's
    or LVIS's format, wrapped (`ClassBalancedDataset`, `RepeatDataset`, ...) or not.
    The learning rate stays as it is, whatever the batch size: see `batch_note`.

    Args:
        config: Not changed.
        train: COCO JSON with the masks to learn from.
        images: The folder that its file names start from. mmdet's LVIS classes take the
            last two parts of `coco_url` for the file name, `train2017/NAME.jpg`.
        val: COCO JSON with true masks.
        val_images: The same for `val`.
        classes: Names of the categories, in the order of the files.
        workdir: For checkpoints and logs; tests write `detections.segm.json` there.
        init: A file with weights of the backbone; "random", which also lets all layers
            learn; or None for what the config says, which may need a network. With a
            file or "random", pre-trained weights of other parts are not loaded either.
        epochs: Length of the training; milestones move in proportion. None, and no
            `iterations`: the config's schedule.
        iterations: The same, counted in steps of the optimizer.

    Raises:
        Stage2Error: If the config cannot learn from masks of such a file, or its
            schedule cannot be changed, or a file of weights is missing.
    """
    if not classes:
        raise Stage2Error("No classes: there is nothing to learn.")
    config = copy.deepcopy(config)
    _fill_train(config, train, images, classes)
    _fill_test(config, val, val_images, classes, workdir)
    _keep_masks(config)
    _keep_orientation(config)
    _fill_classes(config.get("model") or {}, len(classes))
    fill_initial_weights(config, init)
    fill_schedule(config, epochs, iterations)
    config.work_dir = str(workdir)
    return config


def batch_note(config: Config, processes: int = 1) -> str | None:
    """What to know about the batch size, if it is not that of the learning rate."""
    scaling = config.get("auto_scale_lr") or {}
    expected = scaling.get("base_batch_size")
    size = (config.train_dataloader.get("batch_size") or 0) * processes
    if not expected or not size or size == expected:
        return None
    rate = config.optim_wrapper.optimizer.lr
    made_for = f"batches of {size}, the learning rate {rate:g} is for {expected}"
    if scaling.get("enable"):
        return f"{made_for}: it becomes {rate * size / expected:g}"
    return (
        f"{made_for} and stays; auto_scale_lr.enable=True would make it "
        f"{rate * size / expected:g}"
    )


def _fill_train(
    config: Config, path: str | Path, images: str | Path, classes: Sequence[str]
) -> None:
    dataset = _dataset(config, "train_dataloader")
    _fill_dataset(dataset, path, images, classes)
    # Small images are dropped with their objects, without a word. The data sets of the
    # paper have none, other people's may.
    if dataset.get("filter_cfg"):
        dataset["filter_cfg"]["min_size"] = 0


def _fill_test(
    config: Config,
    path: str | Path,
    images: str | Path,
    classes: Sequence[str],
    workdir: str | Path,
) -> None:
    for kind in ("val", "test"):
        if not config.get(f"{kind}_dataloader"):
            other = "test" if kind == "val" else "val"
            config[f"{kind}_dataloader"] = copy.deepcopy(
                config.get(f"{other}_dataloader")
            )
        dataset = _dataset(config, f"{kind}_dataloader")
        _fill_dataset(dataset, path, images, classes)
        dataset["test_mode"] = True
        federated = issubclass(class_of(dataset, DATASETS), LVISV05Dataset)
        config[f"{kind}_evaluator"] = {
            "type": "LVISMetric" if federated else "CocoMetric",
            "ann_file": str(path),
            "metric": "segm",
            "outfile_prefix": str(Path(workdir) / DETECTIONS),
        }
        if not config.get(f"{kind}_cfg"):
            config[f"{kind}_cfg"] = {"type": f"{kind.capitalize()}Loop"}


def _fill_dataset(
    dataset: dict[str, Any],
    path: str | Path,
    images: str | Path,
    classes: Sequence[str],
) -> None:
    dataset["data_root"] = ""
    dataset["ann_file"] = str(path)
    dataset["data_prefix"] = {"img": str(images)}
    # Without a palette any number of classes can be drawn.
    dataset["metainfo"] = {"classes": tuple(classes), "palette": None}


def _dataset(config: Config, loader: str) -> dict[str, Any]:
    """The one data set of a loader that reads a file, inside of its wrappers."""
    if not config.get(loader) or not config[loader].get("dataset"):
        raise Stage2Error(f"The config has no {loader} with a data set.")
    found = list(_inner(config[loader]["dataset"]))
    if len(found) != 1:
        raise Stage2Error(
            f"The {loader} of the config joins {len(found)} data sets; it must have "
            "one, whose file can be replaced."
        )
    [dataset] = found
    kind = class_of(dataset, DATASETS)
    if kind is None:
        raise Stage2Error(
            f"The {loader} of the config has the data set {type_name(dataset)!r}, "
            "which mmdet does not know. Name its module in the config's custom_imports."
        )
    if not issubclass(kind, CocoDataset) or issubclass(kind, CocoPanopticDataset):
        raise Stage2Error(
            f"The {loader} of the config reads its files as {kind.__name__}; "
            "expected CocoDataset, LVISV1Dataset or a class of their kind."
        )
    return dataset


def _inner(dataset: Mapping[str, Any]) -> Iterator[Any]:
    if "datasets" in dataset:
        for each in dataset["datasets"]:
            yield from _inner(each)
    elif isinstance(dataset.get("dataset"), Mapping):
        yield from _inner(dataset["dataset"])
    else:
        yield dataset


def _keep_masks(config: Config) -> None:
    """Has masks read as bitmaps, everywhere: as polygons, RLE would be ignored."""
    loaders = _annotation_loaders(config.train_dataloader)
    if not loaders or not all(each.get("with_mask") for each in loaders):
        raise Stage2Error(
            "The training pipeline of the config does not load masks: it must have "
            "LoadAnnotations with with_mask=True, as an instance segmentation model."
        )
    if any(each.get("with_seg") for each in loaders):
        raise Stage2Error(
            "The training pipeline of the config loads semantic maps (with_seg=True), "
            "which pseudo masks do not come with."
        )
    # Hooks can bring a second training pipeline.
    for each in _annotation_loaders(config._cfg_dict):
        if each.get("with_mask"):
            each["poly2mask"] = True


def _keep_orientation(config: Config) -> None:
    """Has pixels read as they are stored, as masks and boxes are of those.

    By default an image with an orientation in its EXIF is turned, its masks are not,
    and mmdet would read them in rows of another length.
    """
    for node in nodes(config._cfg_dict):
        if (
            type_name(node) == "LoadImageFromFile"
            and node.get("color_type", "color") == "color"
            and node.get("imdecode_backend", "cv2") in ("cv2", "pillow")
        ):
            node["color_type"] = "color_ignore_orientation"


def _annotation_loaders(tree: Any) -> list[dict[str, Any]]:
    return [node for node in nodes(tree) if type_name(node) == "LoadAnnotations"]


def _fill_classes(model: dict[str, Any], count: int) -> None:
    """Sets the number of classes in every part of a model that has one."""
    places = 0
    for node in nodes(model, leave_out=("rpn_head",)):  # it tells objects from none
        old = node.get("num_classes") or _things_and_stuff(node)
        names = [name for name in _COUNTS if name in node or _counts(node, name)]
        for name in names:
            node[name] = 0 if name == "num_stuff_classes" else count
        if names and old:
            for loss in node.values():
                if isinstance(loss, Mapping):
                    _fill_class_weights(loss, old, count)
        places += len(names)
    if not places:
        raise Stage2Error("The model of the config has no part with a num_classes.")


_COUNTS = ("num_classes", "num_things_classes", "num_stuff_classes")


def _things_and_stuff(node: Mapping[str, Any]) -> int:
    return node.get("num_things_classes", 0) + node.get("num_stuff_classes", 0)


def _counts(node: Mapping[str, Any], name: str) -> bool:
    """Whether a head would count its classes by a default of its own."""
    kind = class_of(node, MODELS)
    if kind is None or not kind.__name__.endswith("Head"):
        return False
    if name == "num_classes" and accepts(kind, "num_things_classes"):
        return False  # counts things and stuff instead
    return accepts(kind, name)


def _fill_class_weights(loss: Any, old: int, count: int) -> None:
    weights = loss.get("class_weight")
    if not isinstance(weights, list | tuple):
        return
    if len(set(weights[:old])) > 1:
        raise Stage2Error(
            f"A {loss.get('type')} of the config weighs its {old} classes differently; "
            "for other classes there are no weights. Remove its class_weight."
        )
    loss["class_weight"] = [weights[0]] * count + list(weights[old:])
