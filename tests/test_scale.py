"""The same losses on any number of devices and processes, through the command."""

import json
import shutil

import numpy as np
import pytest

from tests.support import toy
from tests.support.processes import finish_all, start_processes

NUM_STEPS = 20
# processes, devices of each, sizes of the mesh, and a way of attending
LAYOUTS = {
    "8x1": (1, 8, (8, 1), "auto"),
    "4x2": (1, 8, (4, 2), "auto"),
    "1x8": (1, 8, (1, 8), "auto"),
    "2 processes, 2x4": (2, 4, (2, 4), "auto"),
    "2 processes, 2x4, in parts": (2, 4, (2, 4), "in_parts"),
}


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """A folder with data, and a workdir whose warm-up is done."""
    folder = tmp_path_factory.mktemp("scale")
    toy.write_dataset(folder, num_images=10)
    config = toy.config_for(folder, folder / "warm", batch_size=8)
    config.generate.batch_size = 8
    config.train.steps = NUM_STEPS
    config.train.checkpoint_every = 50
    flags = toy.as_flags(config)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("JAX_COMPILATION_CACHE_DIR")
        patch.setenv("XDG_CACHE_HOME", str(folder / "of user"))
        for phase in ("prepare", "warmup"):
            ((status, said),) = finish_all(
                start_processes(
                    [*flags, f"--phase={phase}"],
                    num_processes=1,
                    devices=1,
                )
            )
            assert status == 0, said
    return folder, flags


def _train(warm, name, num_processes=1, devices=1, mesh=(1, 1), attention="auto"):
    """The rows of a training that goes on from the warm-up, in a workdir of its own."""
    folder, flags = warm
    workdir = folder / name.replace(" ", "_").replace(",", "")
    shutil.copytree(folder / "warm", workdir)
    changed = [f"--config.mesh.data={mesh[0]}", f"--config.mesh.fsdp={mesh[1]}"]
    changed += [f"--config.model.attention={attention}"]
    ends = finish_all(
        start_processes(
            [*flags, f"--workdir={workdir}", "--phase=train", *changed],
            num_processes=num_processes,
            devices=devices,
        )
    )
    assert [status for status, _ in ends] == [0] * num_processes, ends
    return toy.rows(workdir, "train")


@pytest.fixture(scope="module")
def alone(warm):
    """The rows of one device."""
    return _train(warm, "alone")


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
def test_losses_do_not_depend_on_devices_and_processes(warm, alone, name):
    rows = _train(warm, name, *LAYOUTS[name])
    assert [row["step"] for row in rows] == list(range(1, NUM_STEPS + 1))
    # Devices add in another order, and training multiplies what rounding leaves.
    tolerance = np.where(np.arange(NUM_STEPS) < 10, 1e-5, 1e-3)
    for key in ("loss/total", "loss/point", "loss/crf", "optimizer/grad_norm"):
        found, wanted = (np.array([row[key] for row in r]) for r in (rows, alone))
        assert np.all(np.abs(found - wanted) <= tolerance * np.abs(wanted)), key


@pytest.mark.slow
def test_compiled_programs_outlive_the_process(warm):
    kept = [path.name for path in (warm[0] / "of user" / "exits_jax").rglob("*")]
    assert any("train_step" in name for name in kept)


def test_two_processes_do_all_phases_with_split_parameters(tmp_path):
    toy.write_dataset(tmp_path / "data", num_images=10)
    config = toy.config_for(tmp_path / "data", tmp_path / "run", mesh__fsdp=2)
    config.warmup.steps = config.train.steps = 2
    ends = finish_all(start_processes(toy.as_flags(config), num_processes=2, devices=2))
    assert [status for status, _ in ends] == [0, 0], ends
    masks = json.loads((tmp_path / "run" / "pseudo_masks.json").read_text())
    skipped = json.loads((tmp_path / "run" / "skipped.json").read_text())
    made = [each for each in masks["annotations"] if "exits" in each]
    assert len(made) + len(skipped) == 20
    found = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert found["all"]["count"] == 20 and found["points"]["crops"] > 0
    assert not (tmp_path / "run" / "parts").exists()
