from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from exits_jax.ops import attention
from exits_jax.ops.attention import WAYS, heads_of_part
from exits_jax.train.sharding import make_mesh, split_rows
from tests.support import reference

# A way on this machine: the kernel of TPUs is carried out step by step, cuDNN's part
# is done by XLA, which has the same signature.
HERE = {
    **{name: WAYS[name].attend for name in ("together", "by_head", "in_parts")},
    "splash": partial(attention.splash, interpret=True),
    "cudnn": WAYS["cudnn"].attend,
}


@pytest.fixture
def without_cudnn(monkeypatch):
    real = jax.nn.dot_product_attention
    by_xla = lambda *args, **options: real(*args, **options | {"implementation": "xla"})
    monkeypatch.setattr(jax.nn, "dot_product_attention", by_xla)


def drawn(shape=(2, 13, 6, 8), dtype=jnp.float32):
    """Queries, keys, values and the gradient of the result; 6 heads are parts of 3."""
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape), dtype) for _ in range(4)]


def exact(arrays):
    """Result, mean attention and gradients in float64."""
    double = [np.asarray(x, np.float64) for x in arrays]
    batch, _, heads, _ = double[0].shape
    found = [
        [
            reference.attention(*(x[row, :, head] for x in double))
            for head in range(heads)
        ]
        for row in range(batch)
    ]
    stack = lambda get: np.stack(
        [np.stack([get(of_head) for of_head in row], axis=1) for row in found]
    )
    mean = np.stack([np.mean([probs for _, probs, _ in row], axis=0) for row in found])
    gradients = [stack(lambda one, k=k: one[2][k]) for k in range(3)]
    return stack(lambda one: one[0]), mean, gradients


def with_gradients(attend, arrays):
    @jax.jit
    def both(query, key, value, gradient):
        result, pull = jax.vjp(attend, query, key, value)
        return result, pull(gradient)

    return both(*arrays)


@pytest.mark.parametrize("way", HERE)
def test_every_way_and_its_gradient_are_softmax_attention(way, without_cudnn):
    arrays = drawn()
    expected, _, of_inputs = exact(arrays)
    result, gradients = with_gradients(HERE[way], arrays)
    close = partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-6)
    close(result, expected)
    for actual, wanted in zip(gradients, of_inputs, strict=True):
        close(actual, wanted)


@pytest.mark.parametrize("way", HERE)
def test_in_bfloat16_no_way_is_farther_from_float64_than_its_rounding(
    way, without_cudnn
):
    arrays = drawn(dtype=jnp.bfloat16)
    expected, _, of_inputs = exact(arrays)
    result, gradients = with_gradients(HERE[way], arrays)
    assert result.dtype == jnp.bfloat16
    for actual, wanted in zip(
        (result, *gradients), (expected, *of_inputs), strict=True
    ):
        error = np.asarray(actual, np.float64) - wanted
        assert np.sqrt((error**2).mean()) < 2**-7 * np.sqrt((wanted**2).mean())


@pytest.mark.parametrize("way", ["together", "in_parts"])
def test_the_mean_over_heads_is_that_of_the_reference(way):
    arrays = drawn()
    mean = jax.jit(WAYS[way].mean)(*arrays[:2])
    np.testing.assert_allclose(mean, exact(arrays)[1], rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("way", HERE)
def test_large_scores_overflow_in_no_way(way, without_cudnn):
    large = [1e3 * x for x in drawn()[:3]]
    assert np.isfinite(jax.jit(HERE[way])(*large)).all()


@pytest.mark.parametrize("way", ["in_parts", "splash"])
def test_on_a_mesh_each_device_attends_to_its_own_rows(way):
    arrays = drawn((8, 5, 2, 8))
    alone, gradients = with_gradients(HERE[way], arrays)
    mesh = make_mesh(fsdp=2)
    with jax.set_mesh(mesh):
        split = [jax.device_put(x, split_rows(mesh)) for x in arrays]
        result, on_mesh = with_gradients(HERE[way], split)
    assert result.sharding.is_equivalent_to(split_rows(mesh), result.ndim)
    np.testing.assert_allclose(result, alone, rtol=1e-5, atol=1e-6)
    for actual, expected in zip(on_mesh, gradients, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_rows_that_do_not_divide_over_a_mesh_are_attended_to_all_the_same():
    arrays = drawn((3, 5, 2, 8))[:3]
    with jax.set_mesh(make_mesh()):
        result = jax.jit(attention.in_parts)(*arrays)
    np.testing.assert_allclose(
        result, attention.together(*arrays), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(("heads", "part"), [(12, 4), (16, 4), (6, 3), (3, 3), (7, 1)])
def test_a_part_is_the_largest_divisor_of_the_heads_up_to_four(heads, part):
    assert heads_of_part(heads) == part
