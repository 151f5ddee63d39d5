"""Masks of the Semantic Boundaries Dataset (Hariharan et al., ICCV 2011).

A file `inst/NAME.mat` holds the struct `GTinst`: `Segmentation`, where pixels of
instance k are k and the background is 0, and `Categories`, the class of each instance.
These two are read here, and nothing else is even unpacked: general readers of the
format can be brought down by a damaged or hostile file, or made to fill the memory.
"""

import math
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from exits_jax.data.records import AnnotationError, fault

NUM_CLASSES = 20

Classes = dict[int, int | AnnotationError]

_VARIABLE = "GTinst"
_MAX_BYTES = 2**26  # of a file, and of what it unpacks to; a real one has some kB
_MAX_NUMBER = 2**16
_MAX_DIMENSIONS = 8
_HEADER_BYTES = 128
# Kinds of elements and classes of arrays in the MAT-file format, version 5.
_INT32, _UINT32, _MATRIX, _COMPRESSED = 5, 6, 14, 15
_NUMBERS = dict(
    zip((1, 2, 3, 4, 5, 6, 7, 9, 12, 13), "i1 u1 i2 u2 i4 u4 f4 f8 i8 u8".split())
)
_STRUCT, _NUMBER_CLASSES = 2, range(6, 16)
_CODE_CLASSES = (3, 16, 17, 18)  # objects of two kinds, functions, opaque ones


class _Element(NamedTuple):
    """A typed piece of the file."""

    kind: int
    content: memoryview


class _Array(NamedTuple):
    """A variable or a field, not yet unpacked."""

    kind: int  # class of the array
    shape: tuple[int, ...]
    name: str
    parts: list[_Element]  # what follows the name


def read_mat(path: str | Path) -> tuple[np.ndarray, Classes]:
    """Reads the instances of one image.

    Args:
        path: A file of `inst/`, in a MATLAB format of version 5 to 7.

    Returns:
        Instance numbers, int64 `[height, width]`, 0 for the background; and for every
        instance its class from 1 to 20, or what is wrong with it.

    Raises:
        FileNotFoundError: There is no such file.
        AnnotationError: It cannot be read (E113), or a variable or a field of the
            struct is a function or an object, and nothing of it was read (E401).
    """
    size = os.path.getsize(path)
    if size > _MAX_BYTES:
        raise fault("E113", f"{path} has {size} bytes; expected at most {_MAX_BYTES}.")
    try:
        data = Path(path).read_bytes()
        order = _byte_order(data)
        fields = _struct_fields(data, order)
        segmentation = _whole_numbers(fields, "Segmentation", order)
        categories = _whole_numbers(fields, "Categories", order).ravel()
        if segmentation.ndim != 2 or not segmentation.size:
            raise fault("E113", f"its Segmentation has the shape {segmentation.shape}")
    except AnnotationError as error:
        problem = error.problems[0]
        raise fault(problem.code, f"{path}: {problem.message}.") from None
    except (struct.error, zlib.error) as error:
        raise fault(
            "E113", f"{path} is a damaged or truncated MATLAB file: {error}."
        ) from error
    return segmentation, _classes(segmentation, categories)


def _classes(segmentation: np.ndarray, categories: np.ndarray) -> Classes:
    areas = np.bincount(segmentation.ravel(), minlength=categories.size + 1)
    classes: Classes = {}
    for number in range(1, areas.size):
        if number > categories.size:
            if areas[number]:
                classes[number] = fault("E108", "it has no entry in Categories.")
        elif not 1 <= categories[number - 1] <= NUM_CLASSES:
            classes[number] = fault(
                "E108",
                f"its class is {categories[number - 1]}; expected 1 to {NUM_CLASSES}.",
            )
        elif not areas[number]:
            classes[number] = fault("E213", "it has no pixel in Segmentation.")
        else:
            classes[number] = int(categories[number - 1])
    return classes


def _byte_order(data: bytes) -> str:
    mark = data[126:_HEADER_BYTES]
    if mark not in (b"IM", b"MI"):
        raise fault("E113", "it is no MATLAB file of version 5 to 7")
    order = "<" if mark == b"IM" else ">"
    (version,) = struct.unpack(order + "H", data[124:126])
    if version != 0x0100:
        raise fault("E113", f"its MATLAB format {version:#x} is not that of 5 to 7")
    return order


def _struct_fields(data: bytes, order: str) -> dict[str, _Array]:
    """The fields of the struct, among all variables of the file."""
    found = [
        array
        for array in _variables(memoryview(data)[_HEADER_BYTES:], order)
        if array.name == _VARIABLE
    ]
    if len(found) != 1 or found[0].kind != _STRUCT or math.prod(found[0].shape) != 1:
        raise fault("E113", f"it does not hold one struct {_VARIABLE}")
    if len(found[0].parts) < 2:
        raise fault("E113", f"its {_VARIABLE} has no fields")
    width_part, names_part, *values = found[0].parts
    (width,) = struct.unpack(order + "i", width_part.content)
    names = bytes(names_part.content)
    if width < 1 or len(names) != width * len(values):
        raise fault("E113", f"the names and fields of its {_VARIABLE} do not match")
    return {
        names[i * width : (i + 1) * width].split(b"\0")[0].decode("latin-1"): _array(
            value, order
        )
        for i, value in enumerate(values)
    }


def _variables(data: memoryview, order: str) -> Iterator[_Array]:
    budget = _MAX_BYTES
    for element in _elements(data, order):
        if element.kind == _COMPRESSED:
            unpacker = zlib.decompressobj()
            unpacked = unpacker.decompress(element.content, max(budget, 1))
            if unpacker.unconsumed_tail:
                raise fault("E113", f"it unpacks to more than {_MAX_BYTES} bytes")
            budget -= len(unpacked)
            for inner in _elements(memoryview(unpacked), order):
                yield _array(inner, order)
        else:
            yield _array(element, order)


def _elements(data: memoryview, order: str) -> Iterator[_Element]:
    """The elements that follow each other; all but compressed ones are padded."""
    position = 0
    while position < len(data):
        kind, size = struct.unpack_from(order + "II", data, position)
        start = position + 8
        stop = start + size + (-size % 8 if kind != _COMPRESSED else 0)
        if kind >> 16:  # kind, size and up to 4 bytes share the 8 bytes of the tag
            kind, size, start, stop = kind & 0xFFFF, kind >> 16, position + 4, start
        if start + size > min(stop, len(data)):
            raise struct.error(f"an element of {size} bytes runs past its end")
        yield _Element(kind, data[start : start + size])
        position = stop


def _array(element: _Element, order: str) -> _Array:
    if element.kind != _MATRIX:
        raise fault("E113", f"it holds an element of kind {element.kind}, not an array")
    if not element.content:  # how an unset field is written
        return _Array(_NUMBER_CLASSES[0], (0, 0), "", [])
    flags, *parts = _elements(element.content, order)
    if flags.kind != _UINT32:
        raise fault("E113", "an array in it has no header")
    kind = struct.unpack(order + "II", flags.content)[0] & 0xFF
    if kind in _CODE_CLASSES:
        raise fault(
            "E401",
            f"it holds a function or an object (class {kind}) and was not read; "
            "expected numbers, texts, cells and structs",
        )
    if len(parts) < 2 or parts[0].kind != _INT32:
        raise fault("E113", "an array in it has no shape or no name")
    shape = struct.unpack(f"{order}{len(parts[0].content) // 4}i", parts[0].content)
    if not 2 <= len(shape) <= _MAX_DIMENSIONS or min(shape) < 0:
        raise fault("E113", f"an array in it has the shape {shape!s:.40}")
    return _Array(kind, shape, bytes(parts[1].content).decode("latin-1"), parts[2:])


def _whole_numbers(fields: dict[str, _Array], name: str, order: str) -> np.ndarray:
    """A field as int64, or what keeps it from being an array of whole numbers."""
    if name not in fields:
        raise fault("E113", f"its {_VARIABLE} has no field {name}")
    array = fields[name]
    if not array.parts and 0 in array.shape:
        return np.zeros(array.shape, np.int64)
    # One part: complex numbers have a second, sparse arrays their indices.
    if array.kind not in _NUMBER_CLASSES or len(array.parts) != 1:
        raise fault("E113", f"its {name} does not hold plain numbers")
    kind, content = array.parts[0]
    if kind not in _NUMBERS:
        raise fault("E113", f"its {name} holds elements of kind {kind}, not numbers")
    dtype = np.dtype(order + _NUMBERS[kind])
    if math.prod(array.shape) * dtype.itemsize != len(content):
        raise fault(
            "E113", f"its {name} has {len(content)} bytes for the shape {array.shape}"
        )
    values = np.frombuffer(content, dtype)
    with np.errstate(invalid="ignore"):  # NaN
        whole = (values >= 0) & (values < _MAX_NUMBER) & (values == np.floor(values))
    if not whole.all():
        raise fault(
            "E113", f"its {name} holds something else than whole numbers from 0 on"
        )
    return values.astype(np.int64).reshape(array.shape, order="F")
