import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType

from exits_jax.ops import attention_choice
from exits_jax.ops.attention_choice import Device, chosen, device, lack, suited
from exits_jax.ops.placement import AXES
from exits_jax.train.sharding import make_mesh

KINDS = {
    "cpu": "by_head",
    "TPU v5 lite": "in_parts",
    "TPU v6 lite": "in_parts",
    "TPU v5": "splash",
    "NVIDIA H100 80GB HBM3": "cudnn",
    "AMD Instinct MI300X": "together",
}


@pytest.fixture
def on(monkeypatch):
    """Pretends that the device at hand is another one."""

    def pretend(kind, capability=None):
        found = Device(kind, capability)
        monkeypatch.setattr(attention_choice, "device", lambda: found)

    return pretend


@pytest.mark.parametrize(("kind", "way"), KINDS.items())
def test_each_kind_of_device_has_the_way_that_suits_it(kind, way):
    assert suited(Device(kind)) == way


@pytest.mark.parametrize(("kind", "way"), KINDS.items())
def test_auto_takes_the_way_that_suits_the_device(on, kind, way):
    on(kind)
    assert chosen("auto", dtype=jnp.bfloat16, head_dim=64) == way


@pytest.mark.parametrize(
    ("dtype", "head_dim", "capability", "reason"),
    [
        ("float32", 64, 9.0, "needs bfloat16, not float32"),
        ("bfloat16", 60, 9.0, "needs heads of a multiple of 8 up to 128, not of 60"),
        ("bfloat16", 64, 7.5, "needs compute capability 8.0, not 7.5"),
    ],
)
def test_what_cudnn_cannot_do_goes_together_and_the_log_says_why(
    on, caplog, dtype, head_dim, capability, reason
):
    attention_choice._chosen.cache_clear()
    on("NVIDIA T4", capability)
    for _ in range(2):
        way = chosen("auto", dtype=dtype, head_dim=head_dim)
        assert way == "together"
    assert caplog.messages == [
        f"Attention goes through memory, all heads together: cudnn {reason}."
    ]


@pytest.mark.parametrize("name", ["splash", "cudnn"])
def test_a_kernel_of_other_devices_is_not_for_a_cpu(name):
    assert "this is 'cpu'" in str(lack(name, Device("cpu"), dtype="bfloat16"))


def test_an_unknown_name_is_refused(on):
    on("cpu")
    with pytest.raises(ValueError, match="Unknown attention 'odd'; known: auto, toget"):
        chosen("odd", dtype=jnp.float32, head_dim=64)


def test_the_device_at_hand_is_compiled_for():
    assert device().platform == "cpu"
    with jax.set_mesh(make_mesh()):
        assert device().platform == "cpu"


def test_devices_that_a_mesh_only_describes_are_compiled_for():
    described = jax.sharding.AbstractDevice("TPU v5 lite", 1, "tpu")
    mesh = AbstractMesh((2, 1), AXES, (AxisType.Auto,) * 2, abstract_device=described)
    with jax.sharding.use_abstract_mesh(mesh):
        assert device() == Device("TPU v5 lite")
