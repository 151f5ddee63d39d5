"""What a record holds: one image as it is stored, and its objects, as TFDS features."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from exits_jax.data.records import Instance

Id = int | str


class Schema(NamedTuple):
    """What the features of a data set depend on."""

    category_ids: tuple[Id, ...]  # label k stands for category_ids[k]
    label_names: tuple[str, ...]
    number_image_ids: bool  # image ids are whole numbers; texts otherwise
    number_object_ids: bool


def make_schema(
    categories: Sequence[dict[str, Any]],
    image_ids: Sequence[Id],
    object_ids: Sequence[Id],
) -> Schema:
    """The schema of a data set with these categories and ids."""
    return Schema(
        tuple(category["id"] for category in categories),
        _label_names(categories),
        _are_numbers(image_ids),
        _are_numbers(object_ids),
    )


def make_features(schema: Schema) -> tfds.features.FeaturesDict:
    """The TFDS features of a schema."""
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(
                shape=(None, None, 3), doc="The image file, byte by byte."
            ),
            "image/filename": tfds.features.Text(doc="Relative to the image folder."),
            "image/id": _id_feature(schema.number_image_ids),
            "objects": tfds.features.Sequence(
                {
                    "id": _id_feature(schema.number_object_ids),
                    "bbox": tfds.features.BBoxFeature(
                        doc="ymin, xmin, ymax, xmax, in parts of the image's sides."
                    ),
                    "label": tfds.features.ClassLabel(names=schema.label_names),
                    "is_crowd": tfds.features.Scalar(np.bool_),
                    "extreme_points": tfds.features.Tensor(
                        shape=(4, 2),
                        dtype=np.float32,
                        doc="Top, left, bottom, right, each (x, y) px of the stored "
                        "image; zeros without points.",
                    ),
                    "has_points": tfds.features.Scalar(np.bool_),
                }
            ),
        }
    )


def make_example(
    schema: Schema,
    image: bytes,
    name: str,
    image_id: Id,
    size: tuple[int, int],
    objects: Sequence[Instance],
) -> dict[str, Any]:
    """One record, before TFDS encodes it.

    Args:
        schema: Of the data set.
        image: The image file.
        name: Its name, relative to the image folder.
        image_id: Its id in the annotations.
        size: (height, width), px.
        objects: What is annotated in it; may be none.
    """
    labels = {category: label for label, category in enumerate(schema.category_ids)}
    return {
        "image": image,
        "image/filename": os.fsencode(name),
        "image/id": image_id if schema.number_image_ids else _text(image_id),
        "objects": [
            {
                "id": item.annotation_id
                if schema.number_object_ids
                else _text(item.annotation_id),
                "bbox": _relative_box(item.box, size),
                "label": labels[item.category_id],
                "is_crowd": item.is_crowd,
                "extreme_points": np.zeros((4, 2), np.float32)
                if item.extreme_points is None
                else item.extreme_points,
                "has_points": item.extreme_points is not None,
            }
            for item in objects
        ],
    }


def _relative_box(
    box: tuple[float, float, float, float], size: tuple[int, int]
) -> tfds.features.BBox:
    height, width = size
    x0, y0, x1, y1 = map(float, box)
    return tfds.features.BBox(
        ymin=y0 / height, xmin=x0 / width, ymax=y1 / height, xmax=x1 / width
    )


def _id_feature(is_number: bool) -> Any:
    return tfds.features.Scalar(np.int64) if is_number else tfds.features.Text()


def _text(value: Id) -> str:
    """An id or a name as UTF-8 can hold it: JSON also has halves of characters."""
    return str(value).encode("utf-8", "backslashreplace").decode()


def _are_numbers(ids: Sequence[Id]) -> bool:
    return all(type(value) is int and -(2**63) <= value < 2**63 for value in ids)


def _label_names(categories: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """The names of the categories; TFDS wants one line of text each, none twice."""
    names: list[str] = []
    for category in categories:
        given = category.get("name")
        name = _text(" ".join(given.split())) if isinstance(given, str) else ""
        name = name or f"category {' '.join(_text(category['id']).split())}"
        spare, number = name, 2
        while spare in names:
            spare, number = f"{name} ({number})", number + 1
        names.append(spare)
    return tuple(names)
