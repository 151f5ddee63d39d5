"""PASCAL VOC 2012 with the masks of SBD, as one COCO instances JSON.

Masks come from the original files: palette PNGs for VOC, `.mat` files for SBD.
"""

import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from exits_jax.data.images import ImageError, check_image
from exits_jax.data.records import AnnotationError, Problem, fault
from exits_jax.datasets.sbd import Classes, read_mat
from exits_jax.datasets.voc_masks import other_size, read_voc_masks

CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
PUBLISHED_IMAGES = {"train": 1464, "val": 1449, "train_aug": 10582}
PUBLISHED_SBD_IMAGES = 11355
SPLITS = tuple(PUBLISHED_IMAGES)

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")
_VOC_NAME = re.compile(r"(\d{4})_(\d{6})")


class VocSource(NamedTuple):
    """A split as an instances JSON, and all that did not go into it."""

    split: str
    source: dict[str, Any]  # images, annotations, categories
    image_root: Path  # the folder that `file_name` is relative to
    problems: list[Problem]  # of images and instances left out; each names its image
    warnings: list[str]  # numbers that differ from the published ones


class _Folders(NamedTuple):
    voc: Path  # with JPEGImages, ImageSets, SegmentationObject, SegmentationClass
    sbd: Path | None  # with inst, img, train.txt, val.txt
    root: Path  # above both


def voc_source(
    devkit: str | Path,
    split: str,
    sbd: str | Path | None = None,
    on_problem: Callable[[Problem], None] | None = None,
    *,
    num_threads: int | None = None,
) -> VocSource:
    """Reads a split from its original files.

    "val" and "train" are VOC's segmentation lists, "train_aug" is the union of both
    lists of SBD and VOC's train without VOC's val. VOC's own masks are used for images
    of VOC's train and val, SBD's for all others.

    Images are sorted by name. An image 2007_000027 has the id 2007000027, one whose
    name has another form its name. Annotations are numbered from 1 on, by image and by
    the instance's number in its mask, among the usable ones.

    Args:
        devkit: VOCdevkit, VOCdevkit/VOC2012 or the folder above.
        split: "train", "val" or "train_aug".
        sbd: The unpacked benchmark_RELEASE of SBD, or its folder dataset. If it is
            given, file names are relative to the folder above both, else to VOC2012.
        on_problem: Called with each problem, in the order of the images.
        num_threads: Threads that read; by default one per processor.

    Returns:
        The split. An image with a fault is left out with its instances, an instance
        with a fault alone; each is in `problems`: a missing file (E111), one that
        cannot be read (E113), masks of another size (E110), an instance without pixels
        or class (E213), an unknown class (E108), an unsafe name (E112), a file that
        holds more than data (E401).

    Raises:
        ValueError: An unknown split, or "train_aug" without `sbd`.
        FileNotFoundError: A folder or a list is missing.
        AnnotationError: A list is not text (E101).
    """
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; choose one of {', '.join(SPLITS)}.")
    if split == "train_aug" and sbd is None:
        raise ValueError("The split train_aug needs sbd, the folder of SBD.")
    folders = _find_folders(Path(devkit), None if sbd is None else Path(sbd))
    names, own, warnings = _listed(folders, split)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    problems: list[Problem] = []
    with ThreadPoolExecutor(num_threads or os.cpu_count()) as pool:
        read = lambda name: _read_image(name, folders, from_voc=name in own)
        for image, found, faults in pool.map(read, names):
            images += image
            for record in found:
                annotations.append({"id": len(annotations) + 1, **record})
            problems += faults
            if on_problem is not None:
                for problem in faults:
                    on_problem(problem)
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES, start=1)]
    source = {"images": images, "annotations": annotations, "categories": categories}
    return VocSource(split, source, folders.root, problems, warnings)


def summary_line(found: VocSource) -> str:
    """One line for people: "val: 12 images (the published set has 1,449), ..."."""
    line = (
        f"{found.split}: {len(found.source['images']):,} images (the published set has "
        f"{PUBLISHED_IMAGES[found.split]:,}), {len(found.source['annotations']):,} "
        "instances"
    )
    return line + (f", {len(found.problems):,} problems" if found.problems else "")


def _find_folders(devkit: Path, sbd: Path | None) -> _Folders:
    voc = _first_with(
        "ImageSets", [devkit / "VOC2012", devkit, devkit / "VOCdevkit" / "VOC2012"]
    )
    if sbd is None:
        return _Folders(voc, None, voc)
    sbd = _first_with(
        "inst", [sbd / "dataset", sbd, sbd / "benchmark_RELEASE" / "dataset"]
    )
    return _Folders(voc, sbd, Path(os.path.commonpath([voc, sbd])))


def _first_with(name: str, folders: list[Path]) -> Path:
    for folder in folders:
        if (folder / name).is_dir():
            return folder.resolve()
    tried = ", ".join(str(folder) for folder in folders)
    raise FileNotFoundError(f"There is no folder {name} in any of {tried}.")


def _listed(folders: _Folders, split: str) -> tuple[list[str], set[str], list[str]]:
    """Names of the split, names that VOC itself has masks for, and warnings."""
    lists = folders.voc / "ImageSets" / "Segmentation"
    voc = {name: _read_list(lists / f"{name}.txt") for name in ("train", "val")}
    names, warnings = voc.get(split, set()), []
    if split == "train_aug":
        assert folders.sbd is not None
        sbd = _read_list(folders.sbd / "train.txt") | _read_list(
            folders.sbd / "val.txt"
        )
        names = (sbd | voc["train"]) - voc["val"]
        if len(sbd) != PUBLISHED_SBD_IMAGES:
            warnings.append(
                f"SBD lists {len(sbd):,} images; the published set has "
                f"{PUBLISHED_SBD_IMAGES:,}."
            )
    if len(names) != PUBLISHED_IMAGES[split]:
        warnings.append(
            f"{split} lists {len(names):,} images; the published set has "
            f"{PUBLISHED_IMAGES[split]:,}."
        )
    return sorted(names), voc["train"] | voc["val"], warnings


def _read_list(path: Path) -> set[str]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except FileNotFoundError:
        raise FileNotFoundError(f"The image list {path} does not exist.") from None
    except UnicodeDecodeError as error:
        raise fault("E101", f"{path} is not UTF-8 text: {error}.") from error
    return {line.strip() for line in lines} - {""}


def _read_image(
    name: str, folders: _Folders, *, from_voc: bool
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[Problem]]:
    """The image record, or none; its annotations without ids; what was left out."""
    try:
        path, size = _find_image(name, folders)
        if from_voc:
            masks, classes = read_voc_masks(
                folders.voc / "SegmentationObject" / f"{name}.png",
                folders.voc / "SegmentationClass" / f"{name}.png",
                size,
            )
        else:
            assert folders.sbd is not None
            masks, classes = read_mat(folders.sbd / "inst" / f"{name}.mat")
            if masks.shape != size:
                raise other_size(f"{name}.mat", masks.shape, size)
    except AnnotationError as error:
        problem = error.problems[0]
        return [], [], [_of_image(name, problem.code, problem.message)]
    except FileNotFoundError as error:
        missing = error.filename or error
        return [], [], [_of_image(name, "E111", f"{missing} does not exist.")]
    except (ImageError, OSError) as error:
        return [], [], [_of_image(name, "E113", str(error))]
    match = _VOC_NAME.fullmatch(name)
    image = {
        "id": int(match[1] + match[2]) if match else name,
        "file_name": path.relative_to(folders.root).as_posix(),
        "height": size[0],
        "width": size[1],
    }
    problems = [
        _of_image(name, wrong.problems[0].code, f"instance {number}: {wrong}")
        for number, wrong in classes.items()
        if isinstance(wrong, AnnotationError)
    ]
    return [image], list(_records(image["id"], masks, classes)), problems


def _find_image(name: str, folders: _Folders) -> tuple[Path, tuple[int, int]]:
    if not _NAME.fullmatch(name):
        raise fault("E112", "expected letters, digits, '_', '-' and '.' as its name.")
    places = [folders.voc / "JPEGImages" / f"{name}.jpg"]
    if folders.sbd is not None:
        places.append(folders.sbd / "img" / f"{name}.jpg")
    for path in places:
        if path.is_file():
            return path, check_image(path, full=False)
    raise fault("E111", f"there is no {' or '.join(map(str, places))}.")


def _records(
    image_id: int | str, masks: np.ndarray, classes: Classes
) -> Iterable[dict[str, Any]]:
    columns = np.asfortranarray(masks)  # run lengths go down the columns
    for number, category in classes.items():
        if isinstance(category, AnnotationError):
            continue
        rle: Any = coco_mask.encode((columns == number).view(np.uint8))
        yield {
            "image_id": image_id,
            "category_id": category,
            "segmentation": {
                "size": [int(side) for side in masks.shape],
                "counts": rle["counts"].decode("ascii"),
            },
            "area": int(coco_mask.area(rle)),
            "bbox": [float(value) for value in coco_mask.toBbox(rle)],
            "iscrowd": 0,
        }


def _of_image(name: str, code: str, message: str) -> Problem:
    return Problem(None, code, f"Image {name!a:.120}: {message}")
