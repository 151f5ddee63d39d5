"""Pickles that hold nothing but data, read without running anything they name.

A pickle is a program for a small machine: it builds lists, and it names functions and
calls them. This is that machine for the instructions that data needs. It knows the few
calls that numbers of NumPy are rebuilt with; whatever else is named is refused.
"""

import pickletools
import re
from typing import Any, NamedTuple

import numpy as np

from exits_jax.data.records import AnnotationError, fault

_VALUES = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING "
    "SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES "
    "SHORT_BINBYTES BINBYTES8 BYTEARRAY8".split()
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_NEWEST_PROTOCOL = 5
_MAX_KEY = 100  # letters; "counts" is the longest
_NUMBER_OR_TEXT = re.compile(r"b1|[iu][1248]|f[248]|[SU][1-9]\d{0,3}")
_FUNCTIONS = {
    "_codecs encode",  # how protocols up to 2 write bytes
    "__builtin__ bytes",  # and none
    "numpy ndarray",  # named by `_reconstruct`, never called
    "numpy dtype",
}
for _core in ("numpy.core", "numpy._core"):  # before NumPy 2, and from it on
    _FUNCTIONS |= {f"{_core}.multiarray _reconstruct", f"{_core}.multiarray scalar"}
    _FUNCTIONS.add(f"{_core}.numeric _frombuffer")  # how protocol 5 writes arrays


def load_plain_pickle(data: bytes, name: str) -> Any:
    """Reads lists, tuples, dicts, texts, bytes, numbers and numeric arrays of NumPy.

    Args:
        data: The whole pickle, of any protocol up to 5.
        name: What to call it in messages, usually its path.

    Returns:
        What it holds; numbers of NumPy as plain ones, arrays as lists. A list may
        stand in several places, or in itself.

    Raises:
        AnnotationError: It names something else (E401) or is damaged (E101).
    """
    try:
        return _Machine(2 * len(data)).run(data)
    except AnnotationError as error:
        problem = error.problems[0]
        raise fault(problem.code, f"{name} {problem.message}") from None
    except Exception as error:  # broken bytes are met with many types
        raise fault("E101", f"{name} is not a whole pickle: {error!s:.200}") from error


class _Function(NamedTuple):
    """Something that was named; it is only ever compared."""

    name: str


class _Type:
    """The type of numbers or texts; never one of objects or of several fields."""

    def __init__(self, kind: str):
        self.kind, self.byte_order = kind, "|"


class _Array(list):
    """The values of an array; none until it is described."""


class _Machine:
    """A stack, marks in it, and notes of what may be needed again."""

    def __init__(self, room: int):
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._notes: dict[int, Any] = {}
        # Bytes that calls may still copy: those of the pickle twice, as protocols up to
        # 2 first make the bytes of an array from a text, then its values from them.
        self._room = room

    def run(self, data: bytes) -> Any:
        """What the instructions leave."""
        for instruction, argument, _ in pickletools.genops(data):
            self._do(instruction.name, argument)
        return self._stack.pop()

    def _do(self, name: str, argument: Any) -> None:
        stack, notes = self._stack, self._notes
        match name:
            case _ if name in _VALUES:
                if isinstance(argument, int) and not -(2**63) <= argument < 2**64:
                    raise ValueError("a number of more than 64 bits")
                stack.append(argument)
            case "MARK":
                self._marks.append(len(stack))
            case "NONE" | "NEWTRUE" | "NEWFALSE" | "EMPTY_TUPLE":
                stack.append(_CONSTANTS[name])
            case "TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                size = name.removeprefix("TUPLE")
                stack.append(tuple(self._popped(int(size) if size else None)))
            case "EMPTY_LIST" | "LIST":
                stack.append([] if name == "EMPTY_LIST" else self._popped())
            case "EMPTY_DICT" | "DICT":
                stack.append({} if name == "EMPTY_DICT" else _pairs(self._popped()))
            case "APPEND" | "APPENDS":
                values = self._popped(1 if name == "APPEND" else None)
                _of_type(list, stack[-1]).extend(values)
            case "SETITEM" | "SETITEMS":
                values = self._popped(2 if name == "SETITEM" else None)
                _of_type(dict, stack[-1]).update(_pairs(values))
            case "MEMOIZE" | "PUT" | "BINPUT" | "LONG_BINPUT":
                notes[len(notes) if argument is None else argument] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(notes[argument])
            case "GLOBAL":
                stack.append(_function(argument))
            case "STACK_GLOBAL":
                stack.append(_function(" ".join(self._popped(2))))
            case "REDUCE":
                stack.append(self._called(*self._popped(2)))
            case "BUILD":
                self._describe(stack[-2], stack.pop())
            case "PROTO" if argument > _NEWEST_PROTOCOL:
                raise ValueError(f"protocol {argument}")
            case "PROTO" | "FRAME" | "STOP":
                pass
            case _:
                raise fault(
                    "E401",
                    f"uses the instruction {name}, which plain data does not need; "
                    "nothing of it was run.",
                )

    def _popped(self, count: int | None = None) -> list[Any]:
        """So many values from the top of the stack; all above the last mark."""
        start = self._marks.pop() if count is None else len(self._stack) - count
        if start < 0:
            raise ValueError("an instruction without its values")
        taken = self._stack[start:]
        del self._stack[start:]
        return taken

    def _called(self, function: Any, arguments: Any) -> Any:
        name = function.name.rpartition(" ")[2] if type(function) is _Function else ""
        match name, arguments:
            case "encode", (str(text), "latin1"):
                return self._content(text)
            case "bytes", ():
                return b""
            case "dtype", (str(kind), *_):
                if not _NUMBER_OR_TEXT.fullmatch(kind):
                    raise fault(
                        "E401",
                        f"holds an array of the type {kind[:40]!a}; expected numbers "
                        "or texts.",
                    )
                return _Type(kind)
            case "_reconstruct", (_Function("numpy ndarray"), *_):
                return _Array()
            case "scalar", (_Type() as kind, content):
                return self._values(content, kind, (1,))[0]
            case "_frombuffer", (content, _Type() as kind, shape, _):
                return self._values(content, kind, shape)
        raise ValueError("a call that data does not need")

    def _describe(self, target: Any, state: Any) -> None:
        match target, state:
            case _Array(), (_, shape, _Type() as kind, _, content):
                target[:] = self._values(content, kind, shape)
            case _Type(), (_, "<" | ">" | "=" | "|" as order, None, None, None, *_):
                target.byte_order = order
            case _:
                raise ValueError(f"a {type(target).__name__} described like an object")

    def _values(self, content: Any, kind: _Type, shape: Any) -> list[Any]:
        """The values of an array of one dimension."""
        data = self._content(content)
        dtype = np.dtype(kind.byte_order + kind.kind)
        if shape != (len(data) // dtype.itemsize,) or len(data) % dtype.itemsize:
            raise ValueError(f"an array of {len(data)} bytes in another shape")
        return np.frombuffer(data, dtype).tolist()

    def _content(self, content: Any) -> bytes:
        """Bytes, once it is known that no note is copied again and again."""
        self._room -= len(content)
        if self._room < 0:
            raise ValueError("more bytes than it has")
        # Texts are bytes of Python 2.
        return content.encode("latin-1") if isinstance(content, str) else bytes(content)


def _function(name: str) -> _Function:
    if name not in _FUNCTIONS:
        module, _, function = name.partition(" ")
        raise fault(
            "E401",
            f"asks for {module[:80]!a}.{function[:80]!a}, which is more than data; "
            "nothing of it was run. Use a list of ids in JSON instead.",
        )
    return _Function(name)


def _of_type(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise ValueError(f"a {type(value).__name__} used as a {kind.__name__}")
    return value


def _pairs(values: list[Any]) -> dict[str, Any]:
    """A dict; its keys are short texts, which are hashed and compared at once."""
    keys = values[::2]
    if not all(type(key) is str and len(key) <= _MAX_KEY for key in keys):
        raise ValueError("a dict with other keys than short texts")
    return dict(zip(keys, values[1::2], strict=True))
