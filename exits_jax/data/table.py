"""Many checked objects as a few arrays.

A million `Instance` tuples take over a gigabyte and seconds to send to a worker. Here
an object is one row of each column; it becomes an `Instance` when it is asked for.
Columns that lie in a folder are mapped into memory: processes share them.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, overload, runtime_checkable

import numpy as np

from exits_jax.data.images import read_image
from exits_jax.data.records import FLAG_CODES, Instance

Columns = dict[str, np.ndarray]
_FLAGS = tuple(sorted(FLAG_CODES))  # flag number k is bit k of a row


@runtime_checkable
class ImageSource(Protocol):
    """Where pixels come from; must be cheap to pickle and safe to share by threads."""

    def read(self, image: int, *, reduced_by: int = 1) -> np.ndarray:
        """The pixels of an image, uint8 `[height, width, 3]`.

        Args:
            image: Its place among the images of the annotation file.
            reduced_by: What both sides are divided by, see `images.read_image`.

        Raises:
            FileNotFoundError: There is no such image.
            ImageError: It cannot be decoded; names the file.
        """
        ...

    def name(self, image: int) -> str:
        """What to call an image in messages."""
        ...


class Instances(Sequence[Instance]):
    """Checked objects in file order; rows of one table of images.

    Attributes:
        boxes: float64 `[n, 4]`, xyxy px, right and bottom exclusive.
        points: float32 `[n, 4, 2]`, (x, y) px, order top, left, bottom, right; 0
            without.
        has_points: bool `[n]`.
        is_crowd: bool `[n]`.
        position: int64 `[n]`, place among the annotations of the file.
        image: int32 `[n]`, row in the table of images.
        category: `[n]`, whole numbers that are equal for objects of one category.
        image_sizes: int32 `[m, 2]`, (height, width) of each image, px.
        image_position: int32 `[m]`, place of each image among the images of the file.
        paths: File of each image.
        annotation_ids: Id of each object in the file.
    """

    def __init__(
        self,
        columns: Columns,
        folder: Path | None = None,
        images: ImageSource | None = None,
        base: Path | None = None,
    ):
        """Takes over columns of an `InstanceTable`.

        Args:
            columns: The arrays.
            folder: Where they lie, if they do.
            images: Where pixels come from; None: the files at `paths`.
            base: The folder that relative paths, which are lists, start from.
        """
        self._columns = columns
        self._folder = folder
        self._images = images
        self._base = base
        self.boxes = columns["boxes"]
        self.points = columns["points"]
        self.has_points = columns["has_points"]
        self.is_crowd = columns["is_crowd"]
        self.position = columns["position"]
        self.image = columns["image"]
        self.category = columns["category"]
        self.image_sizes = columns["image_sizes"]
        self.image_position = columns["image_position"]
        self.paths: Sequence[str] = _Paths(columns, base)
        self._ids = _Values(columns, "ids")
        self.annotation_ids: Sequence[int | str] = self._ids
        self._image_ids = _Values(columns, "image_ids")
        self._categories = _Values(columns, "categories")

    @classmethod
    def of(cls, instances: "Iterable[Instance] | Instances") -> "Instances":
        """The same objects as columns; those that are columns come back as they are."""
        if isinstance(instances, Instances):
            return instances
        table = InstanceTable()
        for position, instance in enumerate(instances):
            table.add(instance, position)
        return table.finish()

    @classmethod
    def open(cls, folder: str | Path) -> "Instances":
        """Maps columns that `save` wrote into memory; they are read when used.

        Raises:
            FileNotFoundError: There are none.
        """
        folder = Path(folder)
        files = sorted(folder.glob("*.npy"))
        if not files:
            raise FileNotFoundError(f"{folder} holds no columns of objects.")
        return cls({file.stem: _mapped(file) for file in files}, folder, base=folder)

    def save(self, folder: str | Path, *, inside: Path | None = None) -> "Instances":
        """Writes the columns into an empty folder and opens them there.

        Args:
            folder: Where to write.
            inside: A folder that may be moved together with the columns: paths below
                it are written relative to them. With none, paths that were relative
                to where the columns lay are written as they lead there.

        Raises:
            FileExistsError: Other columns lie there, of which some would stay.
        """
        Path(folder).mkdir(parents=True, exist_ok=True)
        if any(Path(folder).glob("*.npy")):
            raise FileExistsError(f"{folder} already holds columns of objects.")
        columns = dict(self._columns)
        paths: Sequence[str | list] = list(self.paths)
        if inside is not None:
            paths = _relative(self.paths, Path(folder), inside)
        columns |= _pack("paths", paths)
        for name, column in columns.items():
            np.save(Path(folder) / f"{name}.npy", column)
        return _open(Path(folder), self._images)

    def with_images(self, images: ImageSource) -> "Instances":
        """The same objects with pixels from another source than their files."""
        return Instances(self._columns, self._folder, images, self._base)

    def read(self, image: int, *, reduced_by: int = 1) -> np.ndarray:
        """The pixels of an image by its row, see `ImageSource.read`."""
        if self._images is None:
            return read_image(self.paths[image], reduced_by=reduced_by)
        position = int(self.image_position[image])
        return self._images.read(position, reduced_by=reduced_by)

    def name(self, image: int) -> str:
        """What to call an image in messages, usually its path."""
        if self._images is None:
            return self.paths[image]
        return self._images.name(int(self.image_position[image]))

    @property
    def is_mapped(self) -> bool:
        """Whether the columns lie in a folder, so that sending them costs nothing."""
        return self._folder is not None

    def __reduce__(self):
        """Goes to another process as the name of its folder, if it has one."""
        if self._folder is not None:
            return _open, (self._folder, self._images)
        return Instances, (self._columns, None, self._images, self._base)

    def count_flag(self, flag: str) -> int:
        """How many objects have a flag, see `Instance.flags`."""
        return int((self._columns["flags"] >> _FLAGS.index(flag) & 1).sum())

    def __len__(self) -> int:
        """Number of objects."""
        return len(self.boxes)

    @overload
    def __getitem__(self, index: int) -> Instance: ...
    @overload
    def __getitem__(self, index: slice) -> "Instances": ...
    def __getitem__(self, index):
        """One object, or the objects of a slice as columns."""
        if isinstance(index, slice):
            return self.select(np.arange(len(self))[index])
        row = range(len(self))[index]
        image = int(self.image[row])
        height, width = self.image_sizes[image].tolist()
        flags = int(self._columns["flags"][row])
        return Instance(
            annotation_id=self._ids[row],
            image_id=self._image_ids[image],
            category_id=self._categories[int(self.category[row])],
            image_path=self.paths[image],
            image_size=(height, width),
            extreme_points=np.array(self.points[row]) if self.has_points[row] else None,
            box=tuple(self.boxes[row].tolist()),
            is_crowd=bool(self.is_crowd[row]),
            flags=tuple(name for k, name in enumerate(_FLAGS) if flags >> k & 1),
        )

    def __iter__(self) -> Iterator[Instance]:
        """The objects in order."""
        return (self[row] for row in range(len(self)))

    def __eq__(self, other: object) -> bool:
        """Whether two sequences hold the same objects."""
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        return all(map(_are_equal, self, other))

    __hash__ = None  # type: ignore[assignment]

    def select(self, rows: np.ndarray) -> "Instances":
        """The objects of some rows, by a bool mask or by indices."""
        rows = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        columns = dict(self._columns)
        for name in _PER_OBJECT:
            columns[name] = columns[name][rows]
        if self._ids.is_packed:
            del columns["ids_ends"]  # what is left may be whole numbers
            columns |= _pack("ids", [self._ids[int(row)] for row in rows])
        else:
            columns["ids"] = columns["ids"][rows]
        return Instances(columns, None, self._images, self._base)


_PER_OBJECT = (
    "boxes",
    "points",
    "has_points",
    "is_crowd",
    "position",
    "image",
    "category",
    "flags",
)


class InstanceTable:
    """Collects objects one by one, at about a hundred bytes each."""

    def __init__(self) -> None:
        """Starts empty."""
        self._blocks: dict[str, list[np.ndarray]] = {name: [] for name in _PER_OBJECT}
        self._rows: list[tuple[Any, ...]] = []
        self._ids: list[int | str] = []
        self._images: dict[int | str, int] = {}
        self._image_rows: list[tuple[str, tuple[int, int], int]] = []
        self._categories: dict[int | str, int] = {}

    def add(
        self, instance: Instance, position: int, image_position: int | None = None
    ) -> None:
        """Adds an object.

        Args:
            instance: The object.
            position: Its place among the annotations of its file.
            image_position: The place of its image among the images of the file; None
                counts images as they come.
        """
        image = self._images.setdefault(instance.image_id, len(self._images))
        if image == len(self._image_rows):
            place = image if image_position is None else image_position
            self._image_rows.append((instance.image_path, instance.image_size, place))
        category = self._categories.setdefault(
            instance.category_id, len(self._categories)
        )
        self._ids.append(instance.annotation_id)
        self._rows.append(
            (
                instance.box,
                instance.extreme_points,
                instance.is_crowd,
                position,
                image,
                category,
                sum(1 << _FLAGS.index(flag) for flag in instance.flags),
            )
        )
        if len(self._rows) >= 4096:
            self._pack_rows()

    def finish(self) -> Instances:
        """The objects added so far."""
        self._pack_rows()
        empty = _block([])
        columns = {
            name: np.concatenate([empty[name], *self._blocks[name]])
            for name in _PER_OBJECT
        }
        sizes = [size for _, size, _ in self._image_rows]
        columns["image_sizes"] = np.array(sizes, np.int32).reshape(-1, 2)
        places = [place for _, _, place in self._image_rows]
        columns["image_position"] = np.array(places, np.int32)
        columns |= _pack("ids", self._ids)
        columns |= _pack("paths", [path for path, _, _ in self._image_rows])
        columns |= _pack("image_ids", list(self._images))
        columns |= _pack("categories", list(self._categories))
        return Instances(columns)

    def _pack_rows(self) -> None:
        for name, block in _block(self._rows).items():
            self._blocks[name].append(block)
        self._rows = []


def _block(rows: list[tuple[Any, ...]]) -> Columns:
    boxes, points, crowds, positions, images, categories, flags = (
        zip(*rows) if rows else ((),) * 7
    )
    has_points = np.array([value is not None for value in points], bool)
    packed = np.zeros((len(rows), 4, 2), np.float32)
    for row in np.flatnonzero(has_points):
        packed[row] = points[row]
    return {
        "boxes": np.array(boxes, np.float64).reshape(-1, 4),
        "points": packed,
        "has_points": has_points,
        "is_crowd": np.array(crowds, bool),
        "position": np.array(positions, np.int64),
        "image": np.array(images, np.int32),
        "category": np.array(categories, np.int32),
        "flags": np.array(flags, np.int32),
    }


class _Values(Sequence[Any]):
    """Whole numbers, or ids and texts packed as JSON one behind the other."""

    def __init__(self, columns: Columns, name: str):
        self.is_packed = f"{name}_ends" in columns
        self._data = columns[name]
        self._ends = columns.get(f"{name}_ends")

    def __len__(self) -> int:
        return len(self._data if self._ends is None else self._ends)

    def __getitem__(self, index) -> Any:
        index = range(len(self))[index]
        if isinstance(index, range):
            return [self[row] for row in index]
        if self._ends is None:
            return int(self._data[index])
        start = int(self._ends[index - 1]) if index else 0
        return json.loads(self._data[start : int(self._ends[index])].tobytes())

    def __iter__(self) -> Iterator[Any]:
        if self._ends is None:
            return iter(self._data.tolist())
        return (self[row] for row in range(len(self)))


class _Paths(_Values):
    """Paths; one that is packed as a list is relative to a folder."""

    def __init__(self, columns: Columns, base: Path | None):
        super().__init__(columns, "paths")
        self._base = base

    def __getitem__(self, index) -> Any:
        found = super().__getitem__(index)
        if isinstance(index, slice) or isinstance(found, str):
            return found
        return os.path.normpath(os.path.join(self._base or "", *found))


def _relative(paths: Sequence[str], folder: Path, inside: Path) -> list[str | list]:
    """Paths below `inside` as lists that lead there from `folder`."""
    start, top = os.path.abspath(folder), os.path.abspath(inside)
    absolute = [os.path.abspath(path) for path in paths]
    return [
        [os.path.relpath(there, start)] if there.startswith(top + os.sep) else path
        for path, there in zip(paths, absolute)
    ]


def _pack(name: str, values: Sequence[int | str | list]) -> Columns:
    if all(type(value) is int and -(2**63) <= value < 2**63 for value in values):
        return {name: np.array(values, np.int64)}
    texts = [json.dumps(value).encode() for value in values]
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    return {name: np.frombuffer(b"".join(texts), np.uint8), f"{name}_ends": ends}


def _open(folder: Path, images: ImageSource | None) -> Instances:
    """Opens columns, under a name that other processes find."""
    found = Instances.open(folder)
    return found if images is None else found.with_images(images)


def _mapped(file: Path) -> np.ndarray:
    try:
        return np.load(file, mmap_mode="r", allow_pickle=False)
    except ValueError:  # nothing cannot be mapped
        return np.load(file, allow_pickle=False)


def _are_equal(one: Instance, other: Any) -> bool:
    if not isinstance(other, Instance):
        return False
    bare = lambda item: item._replace(extreme_points=None)
    if bare(one) != bare(other):
        return False
    if one.extreme_points is None or other.extreme_points is None:
        return one.extreme_points is other.extreme_points
    return np.array_equal(one.extreme_points, other.extreme_points)
