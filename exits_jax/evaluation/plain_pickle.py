"""Pickles that hold nothing but data, read without running anything they name.

A pickle is a program: it names functions and calls them. Here its instructions are
checked one by one first, and the few functions that numbers of NumPy are rebuilt with
are replaced by the small stand-ins below. Whatever else it names is refused.
"""

import io
import math
import pickle
import pickletools
import re
from typing import Any

import numpy as np

from exits_jax.data.records import AnnotationError, fault

_INSTRUCTIONS = frozenset(
    "PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 "
    "BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE "
    "BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 "
    "BYTEARRAY8 EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 "
    "EMPTY_DICT DICT SETITEM SETITEMS GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT "
    "MEMOIZE GLOBAL STACK_GLOBAL REDUCE BUILD".split()
)
_NUMBER_OR_TEXT = re.compile(r"b1|[iu][1248]|f[248]|[SU][1-9]\d{0,3}")


def load_plain_pickle(data: bytes, name: str) -> Any:
    """Reads lists, tuples, dicts, texts, bytes, numbers and numeric arrays of NumPy.

    Args:
        data: The whole pickle, of any protocol up to 5.
        name: What to call it in messages, usually its path.

    Returns:
        What it holds; numbers of NumPy as plain ones, arrays as `PickledArray`.

    Raises:
        AnnotationError: It names something else (E401) or is damaged (E101).
    """
    try:
        _check_instructions(data)
        return _Unpickler(io.BytesIO(data), encoding="latin-1").load()
    except AnnotationError as error:
        problem = error.problems[0]
        raise fault(problem.code, f"{name} {problem.message}") from None
    except Exception as error:  # broken bytes are met with many types
        raise fault("E101", f"{name} is not a whole pickle: {error!s:.200}") from error


class PickledArray:
    """An array of numbers or texts, as a pickle described it."""

    __slots__ = ("_array",)

    def __init__(self, array: np.ndarray | None = None):
        """Takes over an array; without one, its description is to follow."""
        self._array = array

    def __setstate__(self, state: Any) -> None:
        """Follows the description that NumPy writes."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise ValueError("an array without a description")
        _, shape, dtype, by_columns, content = state
        order = "F" if by_columns is True else "C"
        self._array = _array(content, dtype, shape, order)

    def tolist(self) -> Any:
        """Its values as nested lists."""
        if self._array is None:
            raise ValueError("an array without a description")
        return self._array.tolist()


class _Unpickler(pickle.Unpickler):
    """Finds the stand-ins and nothing else."""

    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) not in _STAND_INS:
            raise fault(
                "E401",
                f"asks for {module!a:.80}.{name!a:.80}, which is more than data; "
                "nothing of it was run. Use a list of ids in JSON instead.",
            )
        return _STAND_INS[module, name]()

    def persistent_load(self, pid: Any, /) -> Any:
        raise fault("E401", "refers to objects outside of it; nothing of it was run.")


class _StandIn:
    """A function that a pickle may call; it has no state that could be changed."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise ValueError("a function is described like an object")


class _Encode(_StandIn):
    """How protocols up to 2 write bytes."""

    __slots__ = ()

    def __call__(self, text: str, encoding: str) -> bytes:
        if encoding != "latin1":
            raise ValueError(f"bytes in the encoding {encoding!r:.40}")
        return text.encode("latin-1")


class _NoBytes(_StandIn):
    """How protocols up to 2 write that there are no bytes."""

    __slots__ = ()

    def __call__(self) -> bytes:
        return b""


class _ArrayType(_StandIn):
    """Named by `_Reconstruct`, never called."""

    __slots__ = ()


class _Reconstruct(_StandIn):
    __slots__ = ()

    def __call__(self, kind: Any, shape: Any, code: Any) -> PickledArray:
        if not isinstance(kind, _ArrayType):
            raise ValueError("an array of a foreign type")
        return PickledArray()


class _FromBuffer(_StandIn):
    """How protocol 5 writes arrays."""

    __slots__ = ()

    def __call__(
        self, content: Any, dtype: Any, shape: Any, order: Any
    ) -> PickledArray:
        return PickledArray(_array(content, dtype, shape, order))


class _Scalar(_StandIn):
    __slots__ = ()

    def __call__(self, dtype: Any, content: Any) -> Any:
        return _array(content, dtype, (), "C").item()


class _Dtype:
    """The type of numbers or texts; never one of objects or of several fields."""

    __slots__ = ("_byte_order", "_kind")

    def __init__(self, kind: str):
        self._kind, self._byte_order = kind, "|"

    def __setstate__(self, state: Any) -> None:
        plain = isinstance(state, tuple) and len(state) in (8, 9)
        if not plain or state[1] not in ("<", ">", "=", "|"):
            raise ValueError("a type of numbers without a byte order")
        if state[2:5] != (None, None, None):
            raise ValueError("a type of numbers with fields")
        self._byte_order = state[1]

    def numpy(self) -> np.dtype:
        return np.dtype(self._byte_order + self._kind)


class _MakeDtype(_StandIn):
    __slots__ = ()

    def __call__(self, kind: Any, align: Any = False, copy: Any = False) -> _Dtype:
        if not isinstance(kind, str) or not _NUMBER_OR_TEXT.fullmatch(kind):
            raise fault(
                "E401",
                f"holds an array of the type {kind!a:.40}; expected numbers or texts.",
            )
        return _Dtype(kind)


_STAND_INS: dict[tuple[str, str], type[Any]] = {
    ("_codecs", "encode"): _Encode,
    ("__builtin__", "bytes"): _NoBytes,
    ("numpy", "ndarray"): _ArrayType,
    ("numpy", "dtype"): _MakeDtype,
}
for _core in ("numpy.core", "numpy._core"):  # before NumPy 2, and from it on
    _STAND_INS[f"{_core}.multiarray", "_reconstruct"] = _Reconstruct
    _STAND_INS[f"{_core}.multiarray", "scalar"] = _Scalar
    _STAND_INS[f"{_core}.numeric", "_frombuffer"] = _FromBuffer


def _array(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if isinstance(content, str):  # bytes of Python 2
        content = content.encode("latin-1")
    if not isinstance(dtype, _Dtype) or not isinstance(content, bytes | bytearray):
        raise ValueError("an array without numbers")
    kind = dtype.numpy()
    if not isinstance(shape, tuple) or any(type(side) is not int for side in shape):
        raise ValueError("an array without a shape")
    if min(shape, default=0) < 0 or math.prod(shape) * kind.itemsize != len(content):
        raise ValueError(f"an array of {len(content)} bytes in the shape {shape!r:.40}")
    return np.frombuffer(bytes(content), kind).reshape(shape, order=order)


def _check_instructions(data: bytes) -> None:
    for count, (instruction, argument, _) in enumerate(pickletools.genops(data)):
        if instruction.name not in _INSTRUCTIONS:
            raise fault(
                "E401",
                f"uses the instruction {instruction.name}, which plain data does not "
                "need; nothing of it was run.",
            )
        # The place of a note reserves memory up to it.
        if "PUT" in instruction.name and isinstance(argument, int):
            if argument > count:
                raise ValueError(f"note {argument} among {count}")
