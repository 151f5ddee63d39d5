import jax.numpy as jnp
import numpy as np
import optax
import pytest

from exits_jax.train.optimizer import adamw, learning_rate

SCHEDULE = learning_rate(peak=2.0, num_steps=100, warmup_steps=10, floor=0.2)


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0.2), (4, 1.0), (9, 2.0), (10, 2.0), (55, 1.2), (100, 0.4), (500, 0.4)],
)
def test_the_rate_rises_then_falls_to_its_floor(step, expected):
    np.testing.assert_allclose(SCHEDULE(step), expected, rtol=1e-6)


def test_the_rate_takes_no_jump():
    rates = np.array([SCHEDULE(step) for step in range(101)])
    assert np.abs(np.diff(rates)).max() <= 0.2 + 1e-6


def test_a_run_without_warm_up_starts_at_the_peak():
    rate = learning_rate(peak=3.0, num_steps=1, warmup_steps=0)
    np.testing.assert_allclose(rate(0), 3.0)


def test_decay_covers_biases_and_tables():
    optimizer = adamw(lambda step: 0.5, betas=(0.9, 0.9), weight_decay=0.1)
    params = {"bias": jnp.ones(2), "position_table": jnp.ones((3, 2))}
    zeros = {name: jnp.zeros_like(value) for name, value in params.items()}
    updates, _ = optimizer.update(zeros, optimizer.init(params), params)
    new = optax.apply_updates(params, updates)
    for value in new.values():
        np.testing.assert_allclose(value, 0.95)


def test_the_first_update_has_the_size_of_the_rate():
    optimizer = adamw(lambda step: 0.5, betas=(0.9, 0.9), weight_decay=0.0)
    params = {"w": jnp.zeros(2)}
    grads = {"w": jnp.array([3.0, -0.1])}
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    np.testing.assert_allclose(updates["w"], [-0.5, 0.5], rtol=1e-5)
