"""Trainings of another length than the config's."""

import copy

import pytest
import tiny
import torch
from mmengine.hub import get_config
from mmengine.registry import PARAM_SCHEDULERS

from exits_jax.stage2.errors import Stage2Error

SOLO = "mmdet::solov2/solov2_r50_fpn_ms-3x_coco.py"  # 36 epochs, 27 and 33
CONDINST = "mmdet::condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py"  # 60k, 80k
MASK2FORMER = "mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py"
RTMDET = "mmdet::rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py"


def scheduled(name, folder, change=None, **length):
    config = get_config(name)
    if change:
        change(config)
    return tiny.filled(config, folder, **length)


def rates(config):
    """The learning rate of each iteration, as a share of the config's."""
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    made = [
        PARAM_SCHEDULERS.build(
            copy.deepcopy(each), default_args={"optimizer": optimizer}
        )
        for each in config.param_scheduler
    ]
    found = []
    for _ in range(config.train_cfg.max_iters):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for each in made:
            each.step()
    return found


def milestones(config):
    return config.param_scheduler[-1].milestones


@pytest.mark.parametrize("name", [SOLO, CONDINST, MASK2FORMER, RTMDET])
def test_without_a_length_the_schedule_is_the_config_s(name, tmp_path):
    config, given = tiny.filled(get_config(name), tmp_path), get_config(name)
    assert config.param_scheduler == given.param_scheduler
    assert config.train_cfg == given.train_cfg
    assert config.train_dataloader.sampler == given.train_dataloader.sampler


def test_milestones_keep_their_share_of_the_epochs(tmp_path):
    config = scheduled(SOLO, tmp_path, epochs=12)
    assert config.train_cfg.max_epochs == 12
    assert milestones(config) == [9, 11]
    assert config.param_scheduler[-1].end == 12


def test_warm_up_keeps_its_share_of_the_epochs(tmp_path):
    assert scheduled(SOLO, tmp_path, epochs=12).param_scheduler[0].end == 167
    assert scheduled(SOLO, tmp_path, epochs=72).param_scheduler[0].end == 500


@pytest.mark.parametrize("epochs, expected", [(1, []), (2, [1]), (3, [2]), (4, [3])])
def test_milestones_of_few_epochs_leave_some_training_behind_them(
    epochs, expected, tmp_path
):
    assert milestones(scheduled(SOLO, tmp_path, epochs=epochs)) == expected


def test_epochs_become_iterations(tmp_path):
    config = scheduled(SOLO, tmp_path, iterations=1000)
    assert config.train_cfg.type == "IterBasedTrainLoop"
    assert config.train_cfg.max_iters == 1000
    assert milestones(config) == [750, 917]
    assert config.param_scheduler[-1].by_epoch is False
    assert config.param_scheduler[0].end == 100
    assert config.train_dataloader.sampler.type == "InfiniteSampler"
    assert config.log_processor.by_epoch is False
    assert config.default_hooks.checkpoint.by_epoch is False


def test_iterations_become_epochs_with_an_end(tmp_path):
    config = scheduled(CONDINST, tmp_path, epochs=9)
    assert config.train_cfg.type == "EpochBasedTrainLoop"
    assert milestones(config) == [6, 8]
    assert config.param_scheduler[-1].by_epoch is True
    # An infinite one would never end the first epoch.
    assert config.train_dataloader.sampler.type == "DefaultSampler"
    assert config.train_dataloader.sampler.shuffle is True
    assert config.log_processor.by_epoch is True


@pytest.mark.parametrize("name", [SOLO, CONDINST])
@pytest.mark.parametrize("iterations", [1, 2, 5, 19, 20, 30, 200])
def test_rate_is_full_after_a_tenth_and_a_hundredth_at_the_end(
    name, iterations, tmp_path
):
    found = rates(scheduled(name, tmp_path, iterations=iterations))
    after = found[iterations // 10 :]
    assert after[0] == pytest.approx(1)
    if iterations >= 19:  # of fewer, both milestones are the same
        assert found[-1] == pytest.approx(0.01)
    assert all(late <= early + 1e-9 for early, late in zip(after, after[1:]))


def test_warm_up_of_a_long_training_stays(tmp_path):
    config = scheduled(CONDINST, tmp_path, iterations=90_000)
    assert config.param_scheduler == get_config(CONDINST).param_scheduler


def test_single_scheduler_without_a_warm_up_moves_too(tmp_path):
    config = scheduled(MASK2FORMER, tmp_path, iterations=1000)
    assert milestones(config) == [889, 963]
    assert "dynamic_intervals" not in config.train_cfg


def test_cosine_moves_with_the_length(tmp_path):
    def without_the_switch(config):
        config.custom_hooks = []

    config = scheduled(RTMDET, tmp_path, without_the_switch, iterations=600)
    cosine = config.param_scheduler[-1]
    assert (cosine.begin, cosine.end, cosine.T_max) == (300, 600, 300)
    assert "convert_to_iter_based" not in cosine


def test_few_iterations_are_logged_saved_and_judged(tmp_path):
    config = scheduled(SOLO, tmp_path, iterations=40)
    assert config.default_hooks.logger.interval == 4
    assert config.default_hooks.checkpoint.interval == 2
    assert config.train_cfg.val_interval == 10


@pytest.mark.parametrize("length", [{}, {"epochs": 3}, {"iterations": 40}])
def test_two_checkpoints_are_kept(length, tmp_path):
    config = scheduled(CONDINST, tmp_path, **length)
    assert config.default_hooks.checkpoint.max_keep_ckpts == 2


@pytest.mark.parametrize(
    "length, said",
    [
        ({"epochs": 3, "iterations": 4}, "3 epochs and 4 iterations: choose one"),
        ({"epochs": 0}, "epochs is 0; it must be at least 1"),
        ({"iterations": -5}, "iterations is -5; it must be at least 1"),
    ],
)
def test_length_that_makes_no_sense_is_refused(length, said, tmp_path):
    with pytest.raises(Stage2Error, match=said):
        scheduled(SOLO, tmp_path, **length)


def test_pipeline_that_switches_at_an_epoch_is_not_moved_silently(tmp_path):
    with pytest.raises(Stage2Error, match="PipelineSwitchHook acts at a certain epoch"):
        scheduled(RTMDET, tmp_path, epochs=10)


def test_scheduler_in_other_units_than_the_training_is_refused(tmp_path):
    def in_iterations(config):
        config.param_scheduler[-1].by_epoch = False

    with pytest.raises(Stage2Error, match="MultiStepLR in iterations cannot be moved"):
        scheduled(SOLO, tmp_path, in_iterations, epochs=3)


def test_unknown_scheduler_is_refused(tmp_path):
    def decay(config):
        config.param_scheduler[-1] = {"type": "ExponentialLR", "gamma": 0.9}

    with pytest.raises(Stage2Error, match="ExponentialLR in epochs cannot be moved"):
        scheduled(SOLO, tmp_path, decay, epochs=3)
