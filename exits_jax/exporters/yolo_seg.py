"""Ultralytics' layout for segmentation: a text file of polygons per image."""

import json
from pathlib import Path, PurePosixPath

from exits_jax.exporters.folders import ImagePaths, NameFault, safe_name
from exits_jax.exporters.masks import ImageMasks, MaskObject, MaskSource, Options
from exits_jax.exporters.outlines import outlines
from exits_jax.exporters.polygons import INSET, joined
from exits_jax.exporters.report import NAME, Report
from exits_jax.exporters.shared import (
    leave_out_image,
    link_images,
    lose_scores,
    without_crowds,
)

_MAX_VERTICES = 1000  # Ultralytics resamples outlines to this number


def write_yolo_seg(
    source: MaskSource, folder: Path, options: Options, report: Report
) -> None:
    """Writes `labels`, `train.txt` and `data.yaml`; `images` is a link.

    A line is one object. Several parts become one polygon by bridges, as a format of
    one polygon per line asks for.
    """
    places = _Places()
    with (folder / "train.txt").open("w", encoding="utf-8") as listed:
        for image in source.images():
            try:
                name, label = places.claim(image.file_name)
            except NameFault as fault:
                leave_out_image(image, fault, report)
                continue
            report.num_images += 1
            path = folder / label
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_lines(image, options, report), encoding="ascii")
            listed.write(f"./{name}\n")
    (folder / "data.yaml").write_text(_data_yaml(source), encoding="utf-8")
    report.warn("unlinked_images", link_images(folder, places.links, options))


class _Places:
    """Where an image and its labels lie.

    Ultralytics finds the labels of an image by turning the last folder `images` of
    its path into `labels`. That folder is a link here, the labels lie beside it.
    """

    def __init__(self):
        self.links: dict[PurePosixPath, PurePosixPath] = {}
        self._labels = ImagePaths(".txt")

    def claim(self, file_name: str) -> tuple[PurePosixPath, PurePosixPath]:
        """Relative paths of the image and of its labels.

        Raises:
            NameFault: If the name cannot be used.
        """
        name = safe_name(file_name)
        parts = name.parts
        if "images" in parts[:-1]:
            cut = len(parts) - 1 - parts[:-1][::-1].index("images") - 1
            link = target = PurePosixPath(*parts[: cut + 1])
        else:
            parts, cut = ("images", *parts), 0
            link, target = PurePosixPath("images"), PurePosixPath()
        if not self._is_free(link, target):
            raise NameFault(
                NAME,
                f"the file name {file_name!a:.200} has another place for its folder "
                "`images` than those before it, so that labels would not be found.",
            )
        label = PurePosixPath(*parts[:cut], "labels", *parts[cut + 1 :])
        label = self._labels.claim(str(label))
        self.links[link] = target
        return PurePosixPath(*parts), label

    def _is_free(self, link: PurePosixPath, target: PurePosixPath) -> bool:
        if link in self.links:
            return self.links[link] == target
        return not any(
            other in link.parents or link in other.parents for other in self.links
        )


def _lines(image: ImageMasks, options: Options, report: Report) -> str:
    objects = without_crowds(image, report)
    lose_scores(objects, report)
    report.wrote(len(objects))
    return "".join(_line(item, image, options, report) for item in objects)


def _line(item: MaskObject, image: ImageMasks, options: Options, report: Report) -> str:
    outline = joined(outlines(item, options, report, inset=INSET))
    report.warn("bridged_parts", int(outline.num_bridges > 0))
    report.warn("long_outlines", int(len(outline.points) > _MAX_VERTICES))
    numbers = (outline.points / (image.width, image.height)).ravel().tolist()
    return f"{item.category} {' '.join(f'{number:.6f}' for number in numbers)}\n"


def _data_yaml(source: MaskSource) -> str:
    """The description of the data set; paths are relative to where it lies."""
    lines = [
        "train: train.txt",
        "val: train.txt  # a list of other images, once there is one",
        "names:" if source.categories else "names: {}",
    ]
    lines += [f"  {i}: {_quoted(name)}" for i, name in enumerate(source.categories)]
    return "\n".join(lines) + "\n"


def _quoted(name: str) -> str:
    """A text in double quotes that YAML reads back, whatever it holds."""
    escaped = json.dumps(name, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped)
