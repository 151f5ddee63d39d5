"""Pascal VOC's layout of segmentations: palette images of classes and of objects."""

import io
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from PIL import Image

from exits_jax.exporters.masks import ImageMasks, MaskObject, MaskSource, Options
from exits_jax.exporters.report import COVERED, CROWD, TOO_MANY, Report
from exits_jax.exporters.shared import link_images, lose_scores, with_files

VOID = 255
MAX_VALUE = 254  # 0 is the background, 255 is void
CLASSES, OBJECTS = "SegmentationClass", "SegmentationObject"


def palette() -> np.ndarray:
    """VOC's colours, uint8 [256, 3].

    The bits of a value go to red, green and blue in turn, from the highest bit of the
    colours down.
    """
    values = np.arange(256)
    colours = np.zeros((256, 3), int)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (values >> channel & 1) << (7 - bit)
        values = values >> 3
    return colours.astype(np.uint8)


def write_voc(
    source: MaskSource, folder: Path, options: Options, report: Report
) -> None:
    """Writes SegmentationClass, SegmentationObject, ImageSets and `labelmap.txt`.

    Smaller objects lie over larger ones. What has no number, crowd regions among them,
    is void where nothing else lies: it is not background.
    """
    colours = palette()
    listed = folder / "ImageSets" / "Segmentation" / "train.txt"
    listed.parent.mkdir(parents=True)
    with listed.open("w", encoding="utf-8") as names:
        for image, path in with_files(source, ".png", report):
            classes, objects = _paint(image, options.void_border_px, report)
            _write_png(folder / CLASSES / path, classes, colours)
            _write_png(folder / OBJECTS / path, objects, colours)
            names.write(f"{path.with_suffix('')}\n")
    _write_label_map(folder / "labelmap.txt", source, colours, report)
    here = {PurePosixPath("JPEGImages"): PurePosixPath()}
    report.warn("unlinked_images", link_images(folder, here, options))


def _paint(
    image: ImageMasks, border_px: int, report: Report
) -> tuple[np.ndarray, np.ndarray]:
    """The classes and the objects of each pixel, uint8 [height, width]."""
    numbered, void = _with_numbers(image, report)
    objects = np.zeros((image.height, image.width), np.uint8)
    for item in void:
        _window(objects, item)[item.mask] = VOID
    areas = [int(item.mask.sum()) for item in numbered]
    for place in np.argsort(areas, kind="stable")[::-1]:  # the largest first
        _window(objects, numbered[place])[numbered[place].mask] = place + 1
    visible = np.bincount(objects.ravel(), minlength=256)[1 : len(numbered) + 1]
    hidden = np.array(areas, np.int64) - visible
    report.warn("hidden_pixels", int(hidden.sum()))
    report.warn("overlapping_objects", int(((hidden > 0) & (visible > 0)).sum()))
    if border_px:
        objects[_borders(objects, border_px)] = VOID
        visible = np.bincount(objects.ravel(), minlength=256)[1 : len(numbered) + 1]
    return _renumber(objects, numbered, visible, report)


def _with_numbers(
    image: ImageMasks, report: Report
) -> tuple[list[MaskObject], list[MaskObject]]:
    """The objects that get a number, and those that can only be void."""
    void = [item for item in image.objects if item.is_crowd]
    reasons = {id(item): (CROWD, "is a crowd region") for item in void}
    usable = []
    for item in image.objects:
        if item.is_crowd:
            continue
        if item.category < MAX_VALUE:
            usable.append(item)
        else:
            void.append(item)
            why = f"is of class number {item.category + 1}"
            reasons[id(item)] = (TOO_MANY, why)
    by_area = sorted(usable, key=lambda item: -int(item.mask.sum()))
    for item in by_area[MAX_VALUE:]:
        void.append(item)
        why = f"is not among the {MAX_VALUE} largest objects of its image"
        reasons[id(item)] = (TOO_MANY, why)
    for item in void:
        code, why = reasons[id(item)]
        message = (
            f"Annotation {item.annotation_id!r:.80} {why}; it is void in VOC's masks."
        )
        report.leave_out(item.annotation_id, code, message)
    report.warn("void_objects", len(void))
    return [item for item in usable if id(item) not in reasons], void


def _renumber(
    objects: np.ndarray,
    numbered: list[MaskObject],
    visible: np.ndarray,
    report: Report,
) -> tuple[np.ndarray, np.ndarray]:
    """Closes the gaps that hidden objects leave in the numbers; adds the classes."""
    new = np.zeros(256, np.uint8)
    classes = np.zeros(256, np.uint8)
    new[VOID] = classes[VOID] = VOID
    kept = []
    for value, item in enumerate(numbered, start=1):
        if visible[value - 1]:
            kept.append(item)
            new[value] = len(kept)
            classes[value] = item.category + 1
        else:
            message = (
                f"Annotation {item.annotation_id!r:.80}: smaller objects or the void "
                "border lie over all of its pixels."
            )
            report.leave_out(item.annotation_id, COVERED, message)
    report.wrote(len(kept))
    lose_scores(kept, report)
    return classes[objects], new[objects]


def _borders(objects: np.ndarray, reach: int) -> np.ndarray:
    """Where another object or the background is at most `reach` px away."""
    square = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    return cv2.dilate(objects, square) != cv2.erode(objects, square)


def _window(objects: np.ndarray, item: MaskObject) -> np.ndarray:
    height, width = item.mask.shape
    return objects[item.top : item.top + height, item.left : item.left + width]


def _write_png(path: Path, values: np.ndarray, colours: np.ndarray) -> None:
    image = Image.fromarray(values)
    image.putpalette(colours.tobytes())  # makes it a palette image
    packed = io.BytesIO()
    image.save(packed, format="PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(packed.getvalue())


def _write_label_map(
    path: Path, source: MaskSource, colours: np.ndarray, report: Report
) -> None:
    """Names and colours of the classes, a line each: name:colour:parts:actions."""
    names = ["background", *source.categories[:MAX_VALUE]]
    clean = [" ".join(name.replace(":", " ").split()) for name in names]
    report.warn("renamed_classes", sum(a != b for a, b in zip(names, clean)))
    lines = ["# label:color_rgb:parts:actions"]
    for name, (red, green, blue) in zip(clean, colours.tolist()):
        lines.append(f"{name}:{red},{green},{blue}::")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
