from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from exits_jax.data import augment
from exits_jax.models.generator import PseudoLabelGenerator
from exits_jax.models.mask_decoder import DecoderConfig
from exits_jax.models.params import abstract_graph
from exits_jax.models.vit import VisionTransformer, VitConfig
from exits_jax.train.objectives import CrfOptions, ImageStats, Weights, exits_objective
from exits_jax.train.sharding import (
    make_mesh,
    replicate,
    replicated,
    shard_batch,
    shardings,
    split_rows,
)
from exits_jax.train.state import TrainState
from exits_jax.train.step import (
    PointOptions,
    label_step,
    predict_step,
    stored_label_step,
    train_step,
    with_student_view,
)
from tests.support.toy import model

SIZE, PATCH, ROWS = 32, 8, 4
ENCODER = VitConfig(
    dim=8, depth=1, heads=2, patch_size=PATCH, position_grid=4, class_token=False
)
STATS = ImageStats()
GRAPH, PARAMS = model(
    lambda rngs: PseudoLabelGenerator(ENCODER, DecoderConfig(features=4), rngs=rngs)
)
EXTRACTOR, EXTRACTOR_PARAMS = model(lambda rngs: VisionTransformer(ENCODER, rngs=rngs))
OPTIONS = PointOptions(
    layers=(1,),
    num_hops=1,
    fg_threshold=1e-5,
    bg_threshold=-1e-5,
    num_rounds=3,
    blend=0.25,
    dropout_rate=0.5,
    inward_margin_px=2.0,
    background="outside",
    use_padding=False,
    use_pseudo=True,
)
RATE = 0.01
DECAY = 0.9


def _rows():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (ROWS, SIZE, SIZE, 3), np.uint8)
    points = [[16, 6], [4, 16], [16, 27], [25, 16]]
    return {
        "image": image,
        "student_image": image[:, ::-1].copy(),
        "extreme_points": np.array([points] * ROWS, np.float32),
        "has_points": np.array([True, True, True, False]),
        "box": np.array([[4, 6, 26, 28]] * ROWS, np.float32),
        "valid_region": np.array([[0, 0, SIZE, SIZE]] * ROWS, np.float32),
        "box_area": np.full(ROWS, 3000, np.float32),
        "seed": np.arange(ROWS, dtype=np.uint32),
        "valid": np.ones(ROWS, bool),
    }


class _Machine:
    """Both halves of a step, compiled for the first devices."""

    def __init__(self, num_devices, *, fsdp=1, num_parts=1, graph=GRAPH):
        self.mesh = make_mesh(fsdp=fsdp, devices=jax.devices()[:num_devices])
        self.optimizer = optax.adamw(RATE, b1=0.9, b2=0.95, eps=1e-3)
        weights = Weights(mil=10.0, point=1.0, crf=0.5, crf_ramp_steps=1)
        loss_fn = exits_objective(
            graph, weights=weights, crf=CrfOptions(2), stats=STATS, pooling="bilinear"
        )
        create = partial(TrainState.create, optimizer=self.optimizer, with_teacher=True)
        self.placement = shardings(self.mesh, jax.eval_shape(create, PARAMS))
        self.create = jax.jit(create, out_shardings=self.placement)
        self.train = jax.jit(
            partial(
                train_step,
                loss_fn=loss_fn,
                optimizer=self.optimizer,
                schedule=lambda step: jnp.asarray(RATE),
                teacher_decay=DECAY,
                num_parts=num_parts,
            ),
            donate_argnums=0,
            out_shardings=(self.placement, replicated(self.mesh)),
        )
        self.label = jax.jit(
            partial(
                label_step, EXTRACTOR, options=OPTIONS, stats=STATS, patch_size=PATCH
            ),
            out_shardings=(split_rows(self.mesh), replicated(self.mesh)),
        )

    def start(self):
        return self.create(replicate(self.mesh, PARAMS))

    def run(self, num_steps, rows=None):
        state, batch = self.start(), shard_batch(self.mesh, rows or _rows())
        extractor = jax.device_put(
            EXTRACTOR_PARAMS, shardings(self.mesh, EXTRACTOR_PARAMS)
        )
        trees = lambda state: (state.params, state.teacher_params, state.opt_state)
        states, metrics = [jax.device_get(trees(state))], {}
        with jax.set_mesh(self.mesh):
            for _ in range(num_steps):
                labels, found = self.label(extractor, batch)
                state, metrics = self.train(state, batch | labels)
                states.append(jax.device_get(trees(state)))
        assert int(state.step) == num_steps
        return states, jax.device_get(metrics | found), jax.device_get(labels)


@pytest.fixture(scope="module")
def four():
    machine = _Machine(4)
    return machine, *machine.run(3)


@pytest.fixture(scope="module")
def one():
    machine = _Machine(1)
    return machine, *machine.run(3)


def _agree(one, other):
    for a, b in zip(one[1], other[1], strict=True):
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), a, b)
    np.testing.assert_array_equal(one[3]["known"], other[3]["known"])
    for name, value in one[2].items():
        # The residual is itself a rounding error, a few units in the last place of 1.
        np.testing.assert_allclose(
            other[2][name], value, rtol=1e-3, atol=1e-6, err_msg=name
        )


def test_one_device_equals_four(one, four):
    _agree(one, four)


@pytest.mark.parametrize("fsdp", [2, 4])
def test_split_parameters_change_no_number(one, fsdp):
    machine = _Machine(4, fsdp=fsdp)
    _agree(one, (machine, *machine.run(3)))


def test_parameters_teacher_and_moments_are_split():
    machine = _Machine(4, fsdp=4)
    state = machine.start()
    moments = state.opt_state[0]
    for tree in (state.params, state.teacher_params, moments.mu, moments.nu):
        kernel = tree["encoder"]["blocks"]["0"]["mlp"]["hidden"]["kernel"]
        assert kernel.addressable_shards[0].data.shape == (8, 8)
        assert kernel.shape == (8, 32)


@pytest.mark.parametrize("num_parts", [2, 4])
def test_a_batch_in_parts_changes_no_number(one, num_parts):
    machine = _Machine(1, num_parts=num_parts)
    _agree(one, (machine, *machine.run(3)))


def test_parts_with_fewer_valid_rows_weigh_less():
    rows = _rows() | {"valid": np.array([True, False, True, True])}
    whole, parted = _Machine(1), _Machine(1, num_parts=2)
    _agree((whole, *whole.run(2, rows)), (parted, *parted.run(2, rows)))


def test_parts_are_spread_over_the_devices(one):
    machine = _Machine(2, fsdp=2, num_parts=2)
    _agree(one, (machine, *machine.run(3)))


@pytest.mark.parametrize("remat", ["dots", "block"])
def test_scanned_and_recomputed_blocks_change_no_number(one, remat):
    encoder = ENCODER._replace(scan=True, remat=remat)
    graph = abstract_graph(
        lambda rngs: PseudoLabelGenerator(encoder, DecoderConfig(features=4), rngs=rngs)
    )
    machine = _Machine(2, fsdp=2, graph=graph)
    _agree(one, (machine, *machine.run(3)))


def test_a_step_that_is_not_finite_changes_nothing():
    machine = _Machine(1)
    labels, _ = machine.label(EXTRACTOR_PARAMS, _rows())
    poisoned = {**labels, "target": np.full(labels["target"].shape, np.nan, np.float32)}
    before = jax.device_get(machine.start())
    after, metrics = machine.train(machine.start(), _rows() | poisoned)
    assert metrics["optimizer/skipped"] == 1 and not np.isfinite(metrics["loss/total"])
    assert after.step == 1
    jax.tree.map(np.testing.assert_array_equal, before, after.replace(step=before.step))
    _, metrics = machine.train(after, _rows() | labels)
    assert metrics["optimizer/skipped"] == 0 and np.isfinite(metrics["loss/total"])


@pytest.mark.parametrize("devices", ["one", "four"])
def test_steps_compile_once(devices, request):
    machine = request.getfixturevalue(devices)[0]
    assert machine.train._cache_size() == 1
    assert machine.label._cache_size() == 1


def test_the_state_is_donated_on_several_devices(four):
    machine = four[0]
    state, batch = machine.start(), shard_batch(machine.mesh, _rows())
    labels, _ = machine.label(replicate(machine.mesh, EXTRACTOR_PARAMS), batch)
    machine.train(state, batch | labels)
    trees = (state.params, state.teacher_params, state.opt_state)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(trees))


def test_the_teacher_is_the_moving_average_of_the_student(four):
    for (_, before, _), (params, teacher, _) in zip(four[1], four[1][1:]):
        jax.tree.map(
            lambda old, new, made: np.testing.assert_allclose(
                made, DECAY * old + (1 - DECAY) * new, rtol=1e-5, atol=1e-7
            ),
            before,
            params,
            teacher,
        )


def test_metrics_of_points_are_shares(four):
    metrics = four[2]
    assert metrics["points/mil_fallback_fraction"] == 0.25  # the row without points
    assert 0 < metrics["points/pseudo_fg_fraction"] < 1
    assert metrics["points/pseudo_bg_fraction"] >= 0
    assert 0 <= metrics["points/sinkhorn_residual"] < 1
    np.testing.assert_allclose(metrics["optimizer/learning_rate"], RATE)


def test_without_pseudo_points_only_the_annotation_is_known():
    label = jax.jit(
        partial(
            label_step,
            EXTRACTOR,
            options=OPTIONS._replace(use_pseudo=False),
            stats=STATS,
            patch_size=PATCH,
        )
    )
    labels, metrics = label({}, _rows())
    assert metrics["points/pseudo_fg_fraction"] == 0
    assert metrics["points/mil_fallback_fraction"] == 1  # MIL beside the points
    assert 0 < labels["known"][0].sum() <= 4  # every cell meets the box
    assert labels["known"][3].sum() == 0  # the row without points


def test_labels_depend_on_the_seed_of_the_crop(four):
    machine = four[0]
    rows = _rows()
    params = replicate(machine.mesh, EXTRACTOR_PARAMS)
    known = lambda rows: np.asarray(
        machine.label(params, shard_batch(machine.mesh, rows))[0]["known"]
    )
    same = known(rows)
    np.testing.assert_array_equal(known(rows), same)
    assert np.any(known(rows | {"seed": rows["seed"] + 100}) != same)


def test_the_mirror_image_is_averaged():
    predict = lambda flip, rows: jax.jit(
        partial(predict_step, GRAPH, stats=STATS, flip=flip)
    )(PARAMS, rows)
    rows = {name: _rows()[name] for name in ("image", "box_area")}
    mirrored = rows | {"image": rows["image"][:, :, ::-1].copy()}
    plain, other = predict(False, rows), predict(False, mirrored)
    np.testing.assert_allclose(
        predict(True, rows), (plain + other[:, :, ::-1]) / 2, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("fsdp", [1, 2])
def test_the_student_view_of_the_device_trains_as_that_of_the_host(fsdp):
    rows = _rows()
    clean = {name: rows[name] for name in rows if name != "student_image"}
    options = augment.Photometric(strength=2.0)
    changes = [
        augment.draw_changes(np.random.default_rng(row), options) for row in range(ROWS)
    ]
    views = [augment.apply_changes(*pair) for pair in zip(rows["image"], changes)]
    drawn = [augment.change_arrays(each, options) for each in changes]
    host = clean | {"student_image": np.stack(views)}
    device = clean | {key: np.stack([row[key] for row in drawn]) for key in drawn[0]}
    assert (host["student_image"] != rows["image"]).any(axis=(1, 2, 3)).sum() >= 3
    one, two = _Machine(2, fsdp=fsdp), _Machine(2, fsdp=fsdp)
    _agree((one, *one.run(2, host)), (two, *two.run(2, device)))


def test_without_changes_the_student_sees_the_clean_view():
    rows = {"image": jnp.asarray(_rows()["image"])}
    seen = with_student_view(rows)["student_image"]
    np.testing.assert_array_equal(seen, rows["image"])


def _stored(**changes):
    """Supervision from maps that say: object on the left half of their region."""
    walk = np.zeros((ROWS, 4, 4), np.uint8)
    walk[:, :, :2] = 255
    mask = np.repeat(np.repeat(walk, 2, axis=1), 2, axis=2)
    region = np.array([[0, 0, SIZE, SIZE]] * ROWS, np.float32)
    rows = (
        _rows()
        | {"stored_walk": walk, "stored_mask": mask, "label_region": region}
        | changes
    )
    label = jax.jit(
        partial(
            stored_label_step,
            options=OPTIONS._replace(dropout_rate=0.0),
            fg_probability=0.7,
            bg_probability=0.2,
            patch_size=PATCH,
            mask_ratio=4,
        )
    )
    return label(jax.tree.map(jnp.asarray, rows))


def test_stored_maps_become_points_in_the_box():
    labels, metrics = _stored()
    known, target = np.asarray(labels["known"]), np.asarray(labels["target"])
    assert (known[:3] == 1).all()  # in the box by the walk, outside by the box
    np.testing.assert_array_equal(target[0, 1:3, :2], 1)
    assert target[0, 2, 2] == 1 and not target[0, :, 3].any()  # the right click alone
    assert metrics["points/mil_fallback_fraction"] == 0.25
    np.testing.assert_array_equal(labels["is_empty"], [False, False, False, True])


def test_stored_maps_are_moved_to_where_they_lie_in_the_crop():
    region = np.array([[16, 0, 16 + SIZE, SIZE]] * ROWS, np.float32)
    labels, _ = _stored(label_region=region)
    soft = np.asarray(labels["soft_mask"][0])
    assert soft.shape == (16, 16)
    np.testing.assert_allclose(soft[:, :8], 0)
    np.testing.assert_allclose(soft[:, 8:15], 1, atol=1e-6)  # then they fall
    assert labels["walk"].shape == (ROWS, 4, 4)


def test_points_of_stored_maps_are_dropped_like_others():
    rate = lambda p: OPTIONS._replace(dropout_rate=p)
    rows = {
        "stored_walk": np.full((ROWS, 4, 4), 255, np.uint8),
        "stored_mask": np.full((ROWS, 8, 8), 255, np.uint8),
        "label_region": np.array([[0, 0, SIZE, SIZE]] * ROWS, np.float32),
    }
    batch = jax.tree.map(jnp.asarray, _rows() | rows)
    step = partial(
        stored_label_step,
        fg_probability=0.7,
        bg_probability=0.2,
        patch_size=PATCH,
        mask_ratio=4,
    )
    none, all_gone = (step(batch, options=rate(p))[0] for p in (0.0, 1.0))
    assert (none["known"] >= all_gone["known"]).all()
    assert none["known"].sum() > all_gone["known"].sum()


def test_an_object_without_a_stored_mask_has_no_points_of_the_walk():
    labels, metrics = _stored(stored_mask=np.zeros((ROWS, 8, 8), np.uint8))
    assert not labels["is_labeled"].any() and labels["is_empty"].all()
    assert metrics["points/mil_fallback_fraction"] == 1
