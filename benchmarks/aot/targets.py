"""Accelerators to compile for without having one: what they hold and how fast.

TPUs: Google Cloud's page on each generation (docs.cloud.google.com/tpu/docs/v5e, /v6e,
/v5p), as read in 2026. Slices have the names of Google Cloud, which count TensorCores:
a v5p chip has two, so v5p-512 is 256 chips (4x8x8). H100: NVIDIA's data sheet (SXM5,
dense, without sparsity). The pages state the bandwidth between chips for both
directions together; half of it is what a chip can send.
"""

from typing import NamedTuple

GIB = 2**30


class Chip(NamedTuple):
    """One accelerator; its peaks are bounds that no program reaches."""

    kind: str
    platform: str  # in the words of JAX: "tpu" or "cuda"
    hbm_bytes: float  # what a program may use, the rest is the runtime's
    bf16_flops: float  # per second
    hbm_bandwidth: float  # bytes per second
    link_bandwidth: float  # bytes per second that a chip sends, all links together


class Target(NamedTuple):
    """Some chips that are wired to each other."""

    name: str
    chip: Chip
    topology: str  # in the words of `jax.experimental.topologies`
    num_chips: int


# HBM of TPUs: what the compiler names when a program does not fit.
V5E = Chip("TPU v5e", "tpu", 15.75 * GIB, 197e12, 819e9, 400e9 / 2)
V6E = Chip("TPU v6e", "tpu", 31.25 * GIB, 918e12, 1600e9, 800e9 / 2)
V5P = Chip("TPU v5p", "tpu", 95.74 * GIB, 459e12, 2765e9, 1200e9 / 2)
# HBM: nine tenths of it, XLA_PYTHON_CLIENT_MEM_FRACTION=0.9, as the CUDA context and
# NCCL need room of their own. Links: NVLink.
H100 = Chip("H100 SXM", "cuda", 0.9 * 84942979072, 989e12, 3350e9, 900e9 / 2)

TARGETS = {
    target.name: target
    for target in (
        Target("v5e-8", V5E, "v5e:2x4", 8),
        Target("v5e-16", V5E, "v5e:4x4", 16),
        Target("v5e-256", V5E, "v5e:16x16", 256),
        Target("v6e-16", V6E, "v6e:4x4", 16),
        Target("v6e-256", V6E, "v6e:16x16", 256),
        Target("v5p-8", V5P, "v5p:2x2x1", 4),
        Target("v5p-512", V5P, "v5p:4x8x8", 256),
        Target("v5p-1024", V5P, "v5p:8x8x8", 512),
        Target("h100x8", H100, "1x1x8", 8),
    )
}

# What XLA must know of a GPU that it cannot ask. Facts of the device; XLA keeps such
# descriptions in xla/backends/gpu/target_config/specs.
H100_CONFIG = """
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 84942979072
  shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""

# Without them a TPU's compiler looks for machines that are not there, and a second
# process is refused. Triton's products need a device to choose their tiles on.
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "XLA_FLAGS": "--xla_gpu_enable_triton_gemm=false",
}


def target_named(name: str) -> Target:
    """One of `TARGETS`.

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in TARGETS:
        raise ValueError(f"Unknown target {name!r}; known: {', '.join(TARGETS)}.")
    return TARGETS[name]
