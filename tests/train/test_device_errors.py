import jax
import jax.numpy as jnp
import pytest

from exits_jax.train.device_errors import explain


def test_too_little_memory_names_what_can_be_done():
    too_much = jax.jit(lambda: jnp.zeros((1 << 44,), jnp.float32) + 1)
    with pytest.raises(jax.errors.JaxRuntimeError) as found:
        jax.block_until_ready(too_much())
    said = explain(found.value)
    assert said is not None and "Out of memory allocating" in said
    for knob in ("batch_size", "grad_accum", "model.remat", "mesh.fsdp"):
        assert f"--config.{knob}" in said


@pytest.mark.parametrize(
    "text",
    [
        "FAILED_PRECONDITION: [external/gloo/transport/tcp/pair.cc:547] Connection "
        "closed by peer [127.0.0.1]:4123",
        "UNAVAILABLE: The following tasks are unhealthy (stopped sending heartbeats)",
    ],
)
def test_a_lost_process_is_called_so(text):
    said = explain(jax.errors.JaxRuntimeError(text))
    assert said is not None and said.startswith("lost another process of this run (")


def test_what_is_not_known_is_not_explained():
    assert explain(jax.errors.JaxRuntimeError("INTERNAL: a fault of ours")) is None
