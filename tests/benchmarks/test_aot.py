"""The search for the largest batch, the report and the targets; nothing is compiled."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.aot.report import half_bytes, lines, report, table
from benchmarks.aot.search import compiler_of, largest
from benchmarks.aot.targets import GIB, TARGETS, target_named
from benchmarks.flops import sizes_of, step_flops
from configs import voc

ROOT = Path(__file__).parents[2]


def _half(**changes):
    half = {
        "argument_bytes": 100,
        "output_bytes": 60,
        "alias_bytes": 50,
        "temp_bytes": 1000,
        "code_bytes": 7,
        "cpu_seconds": 1.0,
        "hbm_traffic": 0,
        "wire_bytes": 0.0,
        "collective_bytes": {},
        "activation_gathers": [],
        "recomputed_by_compiler": 0,
    }
    return half | changes


def _facts(rows: int = 2, **changes):
    facts = {
        "per_chip": rows,
        "mesh": {"data": 4, "fsdp": 4},
        "extractor_bytes": 30,
        "state_bytes": 4000,
        "rematerialisations": 0,
        "label": _half(temp_bytes=10),
        "train": _half(),
    }
    return facts | changes


def _result(**changes):
    config = voc.get_config()
    flops = step_flops(sizes_of(config))
    return report(_facts(**changes), target_named("v5e-16"), flops, config)


class _Compiler:
    """Needs `base + slope * rows` bytes, or fails with an error beyond `fails`."""

    def __init__(self, base, slope, fails=10**9):
        self.base, self.slope, self.fails, self.tried = base, slope, fails, []

    def __call__(self, rows):
        self.tried.append(rows)
        if rows >= self.fails:
            return _facts(rows, train={"error": "RESOURCE_EXHAUSTED"})
        needs = self.base + self.slope * rows
        return _facts(rows, train=_half(temp_bytes=needs), state_bytes=0)


@pytest.mark.parametrize("first", [1, 3, 16])
def test_search_ends_at_the_largest_batch_that_fits(first):
    compiler = _Compiler(base=1000, slope=100)
    found = largest(compiler, limit=2260, first=first)
    overhead = half_bytes(compiler(0), "train") - 1000
    assert found["per_chip"] == (2260 - 1000 - overhead) // 100 == 11


def test_search_tries_the_next_larger_batch_before_it_ends():
    compiler = _Compiler(base=0, slope=100)
    found = largest(compiler, limit=5000, first=4)
    assert found["per_chip"] + 1 in compiler.tried


def test_memory_that_is_linear_in_the_batch_needs_four_compilations():
    compiler = _Compiler(base=2000, slope=100)
    largest(compiler, limit=10_000, first=4)
    assert len(compiler.tried) == 4  # two, the prediction, and one that does not fit


def test_search_that_starts_at_the_answer_needs_two_compilations():
    compiler = _Compiler(base=0, slope=100)
    largest(compiler, limit=1150 + half_bytes(compiler(0), "train"), first=11)
    assert compiler.tried[1:] == [11, 12]


def test_compiler_that_gives_up_early_sets_the_limit():
    compiler = _Compiler(base=0, slope=1, fails=7)
    assert largest(compiler, limit=1e9, first=4)["per_chip"] == 6


def test_step_that_does_not_fit_at_all_is_an_error():
    with pytest.raises(ValueError, match="Not even one row per chip fits"):
        largest(_Compiler(base=10**6, slope=1), limit=1000, first=4)


def test_donated_arguments_count_once_and_idle_arrays_count_too():
    facts = _facts()
    assert half_bytes(facts, "train") == 100 + 60 - 50 + 1000 + 14 + 30
    assert half_bytes(facts, "label") == 100 + 60 - 50 + 10 + 14 + 4000


def test_memory_is_that_of_the_larger_half():
    assert _result()["hbm_bytes"] == half_bytes(_facts(), "label")


def test_time_of_a_half_is_that_of_its_slowest_unit():
    chip = TARGETS["v5e-16"].chip
    slow = _half(hbm_traffic=chip.hbm_bandwidth, wire_bytes=3 * chip.link_bandwidth)
    result = _result(label=slow)
    train = max(result["bounds"]["train"].values())
    assert result["seconds"] == pytest.approx(3.0 + train)


def test_utilisation_is_whole_where_only_arithmetic_takes_time():
    assert _result()["mfu"] == pytest.approx(1.0)


def test_what_is_computed_twice_lowers_the_utilisation():
    config = voc.get_config()
    config.model.remat = "block"
    flops = step_flops(sizes_of(config), remat="block")
    result = report(_facts(), target_named("v5e-16"), flops, config)
    assert 0.8 < result["mfu"] < 0.9


def test_report_survives_json_and_becomes_a_row():
    result = json.loads(json.dumps(_result()))
    assert "v5e-16: 16 chips (data 4 x fsdp 4), 2 rows per chip" in lines(result)
    assert table([result]).splitlines()[-1].startswith("| v5e-16 | 4 x 4 | none | 2 |")


def test_slices_of_v5p_are_named_by_their_cores():
    assert {name: TARGETS[name].num_chips for name in ("v5p-512", "v5p-1024")} == {
        "v5p-512": 256,
        "v5p-1024": 512,
    }


def test_topologies_have_as_many_chips_as_their_targets_say():
    for target in TARGETS.values():
        sides = target.topology.rpartition(":")[2].split("x")
        count = 1
        for side in sides:
            count *= int(side)
        assert count == target.num_chips, target.name


def test_no_target_promises_more_memory_than_is_sold():
    sold = {"TPU v5e": 16, "TPU v6e": 32, "TPU v5p": 96, "H100 SXM": 80}
    for target in TARGETS.values():
        assert target.chip.hbm_bytes < sold[target.chip.kind] * GIB


def test_unknown_target_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'v9-1'; known: v5e-8"):
        target_named("v9-1")


def test_table_is_printed_from_files(tmp_path):
    path = tmp_path / "result.json"
    path.write_text(json.dumps(_result()))
    command = [sys.executable, "-m", "benchmarks.aot", "--table", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "| v5e-16 | 4 x 4 |" in done.stdout


def test_compiler_that_is_kept_apart_is_found(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert not compiler_of("tpu")[0]
    (tmp_path / "libtpu").mkdir()
    is_here, variables = compiler_of("tpu")
    assert is_here
    assert variables["PYTHONPATH"].split(os.pathsep)[0] == str(tmp_path / "libtpu")
    assert not compiler_of("cuda")[0]
    (tmp_path / "cuda").mkdir()
    is_here, variables = compiler_of("cuda")
    assert is_here
    tools = variables["PATH"].split(os.pathsep)[0]
    assert tools == str(tmp_path / "cuda" / "nvidia" / "cu13" / "bin")
