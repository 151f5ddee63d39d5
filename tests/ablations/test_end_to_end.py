"""Two rows for real, at toy size, beside one of them run by itself."""

import json
import os

import pytest

from exits_jax.ablations import __main__ as driver
from tests.support import toy

pytestmark = pytest.mark.slow
ROW = "no_point_dropout"
BASE = "tiny"


def test_a_row_that_shares_phases_is_bit_for_bit_the_row_alone(tmp_path, monkeypatch):
    for name, value in toy.environment(1).items():
        monkeypatch.setenv(name, value)
    toy.write_dataset(tmp_path / "data", num_images=4)
    config = toy.config_for(
        tmp_path / "data",
        tmp_path / "unused",
        init__generator_from="warmup",
        points__dropout_rate=0.5,
        warmup__steps=2,
        train__steps=4,
    )
    flags = [flag for flag in toy.as_flags(config) if flag.startswith("--config.")]
    out, alone = tmp_path / "out", tmp_path / "alone"
    table = ["--table=table_6", f"--base={BASE}", "--skip_stage2", f"--out={out}"]
    assert driver.main([*table, *flags]) == driver.OK

    spec = f"{toy.ROOT}/configs/ablations.py:table_6/{ROW}@{BASE}"
    status, said = toy.finish(
        toy.start(f"--config={spec}", f"--workdir={alone}", *flags)
    )
    assert status == 0, said
    row = out / "table_6" / ROW
    for run in ("warmup", "train"):
        toy.assert_same(toy.checkpoint(alone, run), toy.checkpoint(row, run))
    assert _losses(alone) == _losses(row)
    masks = [
        json.loads((each / "pseudo_masks.json").read_text()) for each in (alone, row)
    ]
    assert masks[0]["annotations"] == masks[1]["annotations"]
    evaluations = [(each / "evaluation.json").read_text() for each in (alone, row)]
    assert evaluations[0] == evaluations[1]

    found = json.loads((out / "table_6.json").read_text())
    assert [each["states"]["labels"] for each in found["rows"]] == ["done", "done"]
    assert all(each["ours"]["miou"] > 0 for each in found["rows"])
    assert "warmup: done before" in (row / "log.txt").read_text()
    assert os.listdir(out / "shared")


def _losses(workdir):
    return [
        (row["run"], row["step"], row["loss/total"])
        for row in map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    ]
