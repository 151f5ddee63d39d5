"""What is packed: the annotations of `prepare` and the images they name, as planned."""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from exits_jax.data.annotations import read_instances
from exits_jax.data.coco_file import CocoFile
from exits_jax.data.image_finder import ImageFinder
from exits_jax.data.image_names import source_name
from exits_jax.data.images import ImageError, check_image
from exits_jax.data.records import AnnotationError, Instance
from exits_jax.data.table import Instances
from exits_jax.shards.features import Id, Schema, make_schema
from exits_jax.shards.storage import to_json

FORMAT = 1  # of the records and of the files beside them


class Source(NamedTuple):
    """Where a split comes from."""

    annotations: Path  # as `prepare` writes them: extreme points, no masks
    images: Path  # folder that the file names are relative to
    follow_links: bool = False  # links in the folder may lead out of it


class PackedImage(NamedTuple):
    """One image that becomes one record."""

    name: str  # relative to the image folder
    path: str
    image_id: Id
    size: tuple[int, int]  # (height, width), px
    num_bytes: int  # of the file when packing was planned


class Split(NamedTuple):
    """A split as it will be packed."""

    images: list[PackedImage]  # in the order of the annotation file
    instances: Instances
    rows: dict[Id, list[int]]  # rows of the instances of an image
    categories: list[dict[str, Any]]
    annotations: bytes  # the annotation file that goes beside the shards
    left_out: list[dict[str, Any]]  # images without objects that cannot be opened

    def objects(self, image: PackedImage) -> list[Instance]:
        """What is annotated in an image."""
        return [self.instances[row] for row in self.rows.get(image.image_id, ())]

    def shards(self, shard_bytes: int) -> list[range]:
        """Positions of the images of each shard, by the size of their files alone."""
        bounds, filled = [0], 0
        for position, image in enumerate(self.images):
            if filled and filled + image.num_bytes > shard_bytes:
                bounds.append(position)
                filled = 0
            filled += image.num_bytes
        return [
            range(start, stop)
            for start, stop in zip(bounds, [*bounds[1:], len(self.images)])
        ]


def read_split(source: Source) -> Split:
    """Reads a split and finds its image files; opens only those of unknown size.

    An image without objects whose file is missing or unsafe is left out, with its
    reason: nothing is trained on it, and `prepare` let it pass as well.

    Raises:
        FileNotFoundError: If the annotations or the image folder do not exist.
        AnnotationError: If the annotations are faulty, an object's image is missing,
            there is no image at all, or a record still has a mask.
    """
    found = read_instances(
        source.annotations,
        source.images,
        on_bad="error",
        follow_links=source.follow_links,
    )
    file = found.source
    rows: dict[Id, list[int]] = defaultdict(list)
    for row, instance in enumerate(found.instances):
        rows[instance.image_id].append(row)
    images: list[PackedImage] = []
    records: list[dict[str, Any]] = []
    left_out: list[dict[str, Any]] = []
    finder = ImageFinder(source.images, follow_links=source.follow_links)
    for record in file.images:
        try:
            image = _find(record, finder)
        except (AnnotationError, ImageError, FileNotFoundError) as error:
            if record["id"] in rows:
                raise
            left_out.append({"image_id": record["id"], "message": str(error)})
            continue
        height, width = image.size
        # Whoever reads the shards has no folder to look these up in.
        found_fields = {"file_name": image.name, "height": height, "width": width}
        images.append(image)
        records.append({**record, **found_fields})
    if not images:
        raise AnnotationError(f"{file.name}: none of its images can be packed.")
    text = _annotations_text(file, records)
    return Split(images, found.instances, dict(rows), file.categories, text, left_out)


def schema_of(splits: Mapping[str, Split]) -> tuple[Schema, list[dict[str, Any]]]:
    """The schema that fits all splits, and the categories that its labels stand for.

    Raises:
        AnnotationError: If a category has two names, or there is no category.
    """
    categories: dict[Id, dict[str, Any]] = {}
    for name, split in splits.items():
        for category in split.categories:
            short = {key: category.get(key) for key in ("id", "name")}
            known = categories.setdefault(category["id"], short)
            if known != short:
                raise AnnotationError(
                    f"Category {category['id']!r} is named {known['name']!r} in one "
                    f"split and {short['name']!r} in {name}; one data set needs one "
                    "list of classes."
                )
    if not categories:
        raise AnnotationError("The annotations define no category; one is expected.")
    listed = list(categories.values())
    image_ids = [image.image_id for split in splits.values() for image in split.images]
    object_ids = [
        item.annotation_id for split in splits.values() for item in split.instances
    ]
    return make_schema(listed, image_ids, object_ids), listed


def describe(splits: Mapping[str, Split], name: str, shard_mb: int) -> dict[str, Any]:
    """Digests of everything that decides the bytes of a data set."""
    parts: dict[str, Any] = {"format": FORMAT, "name": name, "shard_mb": shard_mb}
    for split, content in splits.items():
        files = [[image.name, image.num_bytes] for image in content.images]
        parts[f"{split}/annotations"] = hashlib.sha256(content.annotations).hexdigest()
        parts[f"{split}/images"] = hashlib.sha256(to_json(files)).hexdigest()
    return {"digest": hashlib.sha256(to_json(parts)).hexdigest(), "parts": parts}


def _find(record: dict[str, Any], finder: ImageFinder) -> PackedImage:
    name, path = _name_and_path(record, finder)
    height, width = record.get("height"), record.get("width")
    if height is None or width is None:
        height, width = check_image(path, full=False)
    return PackedImage(name, path, record["id"], (height, width), os.path.getsize(path))


def _name_and_path(record: dict[str, Any], finder: ImageFinder) -> tuple[str, str]:
    name, is_url = source_name(record), record.get("file_name") is None
    try:
        found = finder.find(name, any_end=is_url)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"image {record['id']!r}: its file {name!r:.200} is missing in "
            f"{finder.folder}."
        ) from None
    return found.name, finder.path(found)


def _annotations_text(file: CocoFile, images: Sequence[dict[str, Any]]) -> bytes:
    """The annotation file with these images; its records stay as they are."""

    def records() -> Iterator[str]:
        for record in file.annotations:
            if record.get("segmentation") is not None:
                raise AnnotationError(
                    f"{file.name}: annotation {record['id']!r} has a mask. Shards are "
                    "for training, which must not see any: pack what `prepare` wrote."
                )
            yield json.dumps(record, allow_nan=False)

    head = {**file.rest, "categories": file.categories, "images": list(images)}
    opened = to_json(head).decode().rstrip().removesuffix("}")
    return f'{opened}, "annotations": [{", ".join(records())}]}}\n'.encode()
