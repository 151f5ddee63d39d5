"""What a compiled program costs besides arithmetic, read from its HLO text.

XLA's own cost analysis counts the body of a loop once and knows nothing of messages,
so the text is read: every message and every array that goes through HBM, times the
trips of the loops around it.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from math import prod
from typing import NamedTuple

from benchmarks.aot.hlo_text import (
    Line,
    Lines,
    arrays,
    called,
    elements,
    named,
    operands,
    parse,
    root,
    trip_count,
)

KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)
REMATERIALISATION = "nvoluntary full rematerialization"
_SLICES = ("dynamic-slice", "slice", "gather")
_FREE = (  # no array is read or written for them
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"),
    *("partition-id", "replica-id", "while", "conditional", "call", "iota"),
)


class Collective(NamedTuple):
    """One message of a program, as often as it is sent in a step."""

    kind: str  # one of `KINDS`
    shapes: tuple[tuple[int, ...], ...]  # of what is gathered or reduced, whole
    bytes: int  # of them, each time
    group: int  # chips that take part
    trips: int  # how often it is sent
    source: str  # the operation of the program that it comes from

    @property
    def payload(self) -> int:
        """Bytes per step and chip of the whole arrays."""
        return self.bytes * self.trips

    @property
    def wire(self) -> float:
        """Bytes per step that a chip sends where the group forms a ring."""
        if self.kind == "collective-permute":
            return self.payload
        rounds = 2 if self.kind == "all-reduce" else 1
        return rounds * (self.group - 1) / self.group * self.payload


def collectives(text: str, *, num_chips: int) -> list[Collective]:
    """All messages of a compiled module.

    Args:
        text: `compiled.as_text()`.
        num_chips: Chips of the program: a group of all is not always written out.

    Raises:
        ValueError: If a loop that holds a message does not tell its number of trips.
    """
    entry, computations = parse(text)
    return list(_messages(entry, computations, 1, set(), num_chips))


def by_kind(found: Iterable[Collective]) -> dict[str, int]:
    """Payload per step and chip of every kind that occurs."""
    total: Counter[str] = Counter()
    for each in found:
        total[each.kind] += each.payload
    return {kind: total[kind] for kind in KINDS if total[kind]}


def activation_gathers(
    found: Iterable[Collective], param_shapes: Iterable[tuple[int, ...]]
) -> list[Collective]:
    """Gathers of something that is no parameter: of rows that should stay split.

    Compilers transpose, merge and split axes; so a gathered array is taken for a
    parameter if it has as many entries as one of them. Scalars and vectors are left
    aside.
    """
    sizes = {prod(shape) for shape in param_shapes}
    return [
        each
        for each in found
        if each.kind == "all-gather"
        and any(
            sum(side > 1 for side in shape) > 1 and prod(shape) not in sizes
            for shape in each.shapes
        )
    ]


def rematerialisations(log: str) -> list[str]:
    """Warnings of the partitioner that it repeats a whole tensor on every chip."""
    return [line for line in log.splitlines() if REMATERIALISATION in line]


def recomputed_by_compiler(text: str) -> int:
    """Instructions that the compiler repeats as memory would not do otherwise."""
    return len(re.findall(r"^\s*(?:ROOT )?%?[\w.\-]*\.remat[\w.\-]* = ", text, re.M))


def hbm_traffic(text: str) -> int:
    """Bytes per step and chip that instructions read from and write to HBM.

    An estimate: arrays that a layout puts into memory on the core are left out, of an
    array of which a fusion reads or writes a slice only the slice counts, and caches
    of GPUs are taken for too small to help.
    """
    entry, computations = parse(text)
    return _traffic(entry, computations)


def scores_in_hbm(text: str, *, tokens: int) -> list[tuple[int, ...]]:
    """Shapes of float32 results in HBM that hold a value for all pairs of tokens."""
    entry, computations = parse(text)
    pairs = lambda shape: shape.count(tokens) > 1
    return [
        array.shape
        for line in _executed(entry, computations)
        if line.opcode not in _FREE
        for array in arrays(line.result)
        if array.in_hbm and array.bytes == 4 * prod(array.shape) and pairs(array.shape)
    ]


def _executed(name: str, computations: dict[str, Lines]) -> Iterator[Line]:
    """Instructions that write results: those within a fusion do not."""
    for line in computations[name].values():
        yield line
        if line.opcode in ("while", "call", "conditional"):
            for each in called(line.rest):
                yield from _executed(each, computations)


def _messages(
    name: str,
    computations: dict[str, Lines],
    trips: int,
    seen: set,
    num_chips: int,
) -> Iterator[Collective]:
    """The messages of a computation and of those it calls.

    TPUs spread one asynchronous message over several fusions, each with a copy of the
    instruction under the same channel: within one run of a computation it counts once.
    """
    for line in computations[name].values():
        kind = line.opcode.removesuffix("-start")
        if kind in KINDS:
            channel = re.search(r"channel_id=(\d+)", line.rest)
            key = (kind, channel.group(1)) if channel else object()
            if key not in seen:
                seen.add(key)
                # A reduce-scatter of TPUs is an all-reduce and a slice in a fusion.
                fused = kind == "all-reduce" and "all-reduce-scatter" in name
                real = "reduce-scatter" if fused else kind
                yield _collective(real, line, trips, num_chips)
        elif line.opcode == "while":
            body = named(line.rest, "body")
            inner = list(_messages(body, computations, 1, set(), num_chips))
            if inner:
                count = trips * trip_count(line, computations[name], computations)
                yield from (each._replace(trips=each.trips * count) for each in inner)
        elif not line.opcode.endswith("-done"):
            for each in called(line.rest):
                yield from _messages(each, computations, trips, seen, num_chips)


def _collective(kind: str, line: Line, trips: int, num_chips: int) -> Collective:
    """The message of an instruction: all-gathers by result, others by operand."""
    group, result, repeats = _group_size(line.rest, num_chips), line.result, 1
    if line.opcode in ("all-gather-start", "collective-permute-start"):
        result = elements(result)[1]  # (operands, results, ...)
    elif line.opcode == "reduce-scatter-start":
        result = elements(result)[0]
    elif line.opcode == "reduce-scatter":
        repeats = group
    found = arrays(result)
    source = re.search(r'op_name="([^"]*)"', line.rest)
    return Collective(
        kind,
        tuple(array.shape for array in found),
        repeats * sum(array.bytes for array in found),
        group,
        trips,
        source.group(1) if source else "",
    )


def _group_size(rest: str, num_chips: int) -> int:
    """Chips in a group, in any of the three ways in which HLO writes them."""
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", rest)
    if listed:
        return listed.group(1).count(",") + 1
    counted = re.search(r"replica_groups=\[\d+,(\d+)\]<=", rest)
    if counted:
        return int(counted.group(1))
    axes = re.search(r"replica_groups=mesh\[([^\]]*)\].*?\{('[^}]*')\}", rest)
    if axes:
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", axes.group(1)))
        return prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", axes.group(2)))
    return num_chips


def _traffic(name: str, computations: dict[str, Lines]) -> int:
    lines, total = computations[name], 0
    for line in lines.values():
        if line.opcode == "while":
            body = _traffic(named(line.rest, "body"), computations)
            total += body * trip_count(line, lines, computations) if body else 0
        elif line.opcode in ("call", "conditional"):
            total += sum(_traffic(each, computations) for each in called(line.rest))
        elif line.opcode in ("slice-start", "dynamic-slice-start"):
            result = elements(line.result)[1]
            total += sum(array.bytes * (1 + array.in_hbm) for array in arrays(result))
        elif line.opcode.endswith("-start"):  # the result names the operands as well
            parts = elements(line.result)[:2] or 2 * [line.result]
            total += sum(a.bytes for part in parts for a in arrays(part) if a.in_hbm)
        elif line.opcode == "fusion":
            total += _fusion_traffic(line, lines, computations)
        elif line.opcode in _SLICES:
            total += 2 * _hbm(line)
        elif line.opcode == "dynamic-update-slice":
            total += 2 * _hbm(lines[operands(line)[1]])
        elif line.opcode not in _FREE and not line.opcode.endswith("-done"):
            if "AllocateBuffer" not in line.rest:
                total += _hbm(line) + sum(_hbm(lines[each]) for each in operands(line))
    return total


def _fusion_traffic(line: Line, lines: Lines, computations: dict[str, Lines]) -> int:
    """What a fusion reads of its operands and writes of its results."""
    inner, total = computations[named(line.rest, "calls")], 0
    for place, operand in enumerate(operands(line)):
        whole = _hbm(lines[operand])
        if whole:
            read = _read(_parameter(inner, place), inner, computations)
            total += whole if read is None else min(whole, read)
    last = root(inner)
    results = (
        [inner[each] for each in operands(last)] if last.opcode == "tuple" else [last]
    )
    for each, array in zip(results, arrays(line.result)):
        if array.in_hbm:
            while each.opcode == "bitcast":
                each = inner[operands(each)[0]]
            if each.opcode == "dynamic-update-slice":
                each = inner[operands(each)[1]]
            total += min(array.bytes, _bytes(each))
    return total


def _read(name: str, lines: Lines, computations: dict[str, Lines]) -> int | None:
    """Bytes of an instruction that others in its fusion use; None: all of them."""
    total = 0
    for line in lines.values():
        places = [k for k, each in enumerate(operands(line)) if each == name]
        for place in places:
            part: int | None = None
            if line.opcode in _SLICES and place == 0:
                part = _bytes(line)
            elif line.opcode == "dynamic-update-slice" and place == 0:
                part = 0  # written in place
            elif line.opcode == "bitcast":
                used = next(key for key, each in lines.items() if each is line)
                part = _read(used, lines, computations)
            elif line.opcode == "fusion":
                inner = computations[named(line.rest, "calls")]
                part = _read(_parameter(inner, place), inner, computations)
            if part is None:
                return None
            total += part
    return total


def _parameter(lines: Lines, place: int) -> str:
    return next(
        name
        for name, line in lines.items()
        if line.opcode == "parameter" and line.rest.startswith(f"{place})")
    )


def _bytes(line: Line) -> int:
    return sum(array.bytes for array in arrays(line.result))


def _hbm(line: Line) -> int:
    return sum(array.bytes for array in arrays(line.result) if array.in_hbm)
