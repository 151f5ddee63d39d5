import numpy as np
import pytest

from configs import voc
from convert_weights.exports import export
from exits_jax.models.weights import flatten
from exits_jax.run.from_config import mesh_of
from exits_jax.run.workdir import Workdir
from exits_jax.train.sharding import shard_batch

torch = pytest.importorskip("torch", reason="needs the 'convert' extra")

from benchmarks.common.drawn_batch import drawn_batch  # noqa: E402
from benchmarks.common.step_methods import (  # noqa: E402
    JaxStep,
    start_of,
    torch_batch,
    torch_step,
)

pytestmark = pytest.mark.torch


def small_config():
    config = voc.get_config()
    config.batch_size = 4  # the tests have four devices
    config.crop.size = 64
    config.model.dim, config.model.depth, config.model.heads = 32, 3, 2
    config.model.patch_size = 8
    config.model.position_grid = 6  # interpolated to 8
    config.model.dtype = "float32"
    config.model.extractor_init = "xavier"
    config.model.extractor_query_is_key = True
    config.decoder.features = 8
    config.similarity.layers = (1, 2)
    config.init.encoder = ""
    config.points.inward_margin_px = 4.0
    config.points.fg_threshold = 2e-4
    config.points.bg_threshold = -2e-4
    config.points.dropout_rate = 0.0  # two frameworks, two kinds of random numbers
    config.loss.crf_ramp_steps = 2
    config.optimizer.lr_per_sample = 0.05  # so that steps make a difference
    config.train.teacher_decay = 0.5  # likewise
    return config


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads of PyTorch wait for each other by spinning, which a busy CPU punishes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The losses of four steps of both, and which crops were left without points."""
    config = small_config()
    mesh = mesh_of(config)
    start = start_of(config, Workdir(tmp_path_factory.mktemp("run")))
    ours, plain = JaxStep(config, start, method="exits"), torch_step(config, start)
    losses, is_empty = [], []
    for seed in range(4):
        rows = drawn_batch(4, 64, seed=seed)
        batch = torch_batch(rows)
        is_empty += plain.labels(batch, plain.similarity(batch))[2].tolist()
        losses.append((ours(shard_batch(mesh, rows)), plain(batch)))
    return ours, plain, np.array(losses), np.array(is_empty)


def test_both_compute_the_same_losses_step_after_step(runs):
    _, _, losses, _ = runs
    np.testing.assert_allclose(losses[:, 0], losses[:, 1], rtol=1e-4)
    assert np.ptp(losses[:, 0]) > 0.01


def test_the_steps_compared_had_crops_with_points_and_crops_without(runs):
    _, _, _, is_empty = runs
    assert 0 < is_empty.sum() < is_empty.size


def test_both_end_with_the_same_student_and_teacher(runs):
    ours, plain, _, _ = runs
    for params, model in (
        (ours.state.params, plain.student),
        (ours.state.teacher_params, plain.teacher),
    ):
        arrays = {name: np.asarray(x) for name, x in flatten(params).items()}
        for name, value in export(arrays, "torch-generator").items():
            actual = model.state_dict()[name].numpy()
            np.testing.assert_allclose(actual, value, rtol=1e-3, atol=2e-4)


def test_a_configuration_that_pytorch_does_not_know_is_refused():
    config = small_config()
    config.points.walk = "converged"
    with pytest.raises(ValueError, match="knows points.walk = 'hops' alone"):
        torch_step(config, None)
