"""Compiled HLO text as instructions by name: just as much as `hlo` needs."""

import re
from collections import defaultdict
from math import prod
from typing import NamedTuple

ITEM_BITS = {
    **{"pred": 8, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "s16": 16, "u16": 16},
    **{"bf16": 16, "f16": 16, "s32": 32, "u32": 32, "f32": 32},
    **{"s64": 64, "u64": 64, "f64": 64, "c64": 64, "c128": 128, "token": 0},
}
_ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\](\{[^}]*\})?")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_CALLED = re.compile(r"\b(?:calls|to_apply|body|condition)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")


class Array(NamedTuple):
    """An array in the type of an instruction."""

    shape: tuple[int, ...]
    bytes: int
    in_hbm: bool  # not in a memory on the core


class Line(NamedTuple):
    """An instruction."""

    result: str  # type
    opcode: str
    rest: str  # operands and attributes
    is_root: bool


Lines = dict[str, Line]  # of a computation, by name


def parse(text: str) -> tuple[str, dict[str, Lines]]:
    """Name of the entry computation, and the instructions of all of them by name."""
    computations: dict[str, Lines] = defaultdict(dict)
    entry = current = ""
    for line in text.splitlines():
        header = _HEADER.match(line)
        if header and " = " not in line.split("(")[0]:
            current = header.group(2)
            entry = current if header.group(1) else entry
        elif current and " = " in line:
            name, _, rest = line.strip().partition(" = ")
            is_root = name.startswith("ROOT ")
            result, rest = _split_type(rest)
            opcode, _, rest = rest.partition("(")
            name = name.removeprefix("ROOT ").lstrip("%")
            computations[current][name] = Line(result, opcode, rest, is_root)
    if not entry:
        raise ValueError("The text holds no ENTRY computation: is it a compiled HLO?")
    return entry, computations


def _split_type(text: str) -> tuple[str, str]:
    """The type at the start of an instruction, and what follows it."""
    if not text.startswith("("):
        result, _, rest = text.partition(" ")
        return result, rest
    end = _closing(text[1:]) + 1
    return text[: end + 1], text[end + 2 :]


def _closing(text: str) -> int:
    """Where the parenthesis ends that opened just before the text."""
    depth = 1
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return place
    raise ValueError(f"Unbalanced parentheses in HLO: {text[:80]!r}")


def arrays(result: str) -> list[Array]:
    """The arrays of a type; a layout may name a memory other than HBM, as S(1)."""
    found = []
    for dtype, sides, layout in _ARRAY.findall(result):
        shape = tuple(int(side) for side in sides.split(",") if side)
        found.append(
            Array(shape, ITEM_BITS[dtype] * prod(shape) // 8, "S(" not in layout)
        )
    return found


def elements(result: str) -> list[str]:
    """The outermost elements of a tuple type."""
    parts, depth, start = [], 0, 1
    for place, letter in enumerate(result):
        depth += (letter in "([{") - (letter in ")]}")
        if (letter == "," and depth == 1) or (letter == ")" and depth == 0):
            parts.append(result[start:place])
            start = place + 1
    return parts


def called(rest: str) -> list[str]:
    """Computations that an instruction names."""
    found = _CALLED.findall(rest)
    for branches in _BRANCHES.findall(rest):
        found += [name.strip().lstrip("%") for name in branches.split(",")]
    return found


def trip_count(line: Line, caller: Lines, computations: dict[str, Lines]) -> int:
    """Trips of a loop: as the compiler noted, or from its start, bound and step."""
    known = re.search(r'"known_trip_count":\{"n":"(\d+)"', line.rest)
    if known:
        return int(known.group(1))
    condition = computations[named(line.rest, "condition")]
    body = computations[named(line.rest, "body")]
    compare = next((x for x in condition.values() if x.opcode == "compare"), None)
    if compare is None or "direction=LT" not in compare.rest:
        raise ValueError(f"A loop that does not count upwards in HLO: {line.rest[:80]}")
    counter, limit = operands(compare)
    place = int(named(condition[counter].rest, "index"))
    bound = constant(limit, condition)
    start = constant(operands(caller[operands(line)[0]])[place], caller)
    advance = body[operands(root(body))[place]]
    while advance.opcode in ("copy", "bitcast"):
        advance = body[operands(advance)[0]]
    if advance.opcode != "add":
        raise ValueError(f"The step of a loop is no sum in HLO: {advance.opcode}")
    step = constant(operands(advance)[1], body)
    return -(-(bound - start) // step)


def operands(line: Line) -> list[str]:
    """Names of the operands, in order."""
    return re.findall(r"%([\w.\-]+)", line.rest[: _closing(line.rest)])


def root(lines: Lines) -> Line:
    """The instruction whose value a computation returns."""
    return next(line for line in lines.values() if line.is_root)


def constant(name: str, lines: Lines) -> int:
    """The value of an instruction that is a constant, or a copy of one."""
    line = lines[name]
    while line.opcode in ("copy", "bitcast", "convert"):
        line = lines[operands(line)[0]]
    found = re.match(r"(-?\d+)\)", line.rest)
    if line.opcode != "constant" or not found:
        raise ValueError(f"A loop is bounded by {name!r}, which is no constant in HLO.")
    return int(found.group(1))


def named(rest: str, attribute: str) -> str:
    """The value of an attribute of an instruction.

    Raises:
        ValueError: If it has none of that name.
    """
    found = re.search(rf"\b{attribute}=%?([\w.\-]+)", rest)
    if not found:
        raise ValueError(f"No {attribute!r} in HLO: {rest[:80]!r}")
    return found.group(1)
