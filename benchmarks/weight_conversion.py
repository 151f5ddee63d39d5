"""Seconds and peak memory of converting a ViT of true shapes.

Run:  python -m benchmarks.weight_conversion [--sizes=base,large,huge] [--suffix=.pth]

Draws a checkpoint with timm's names (as MAE's public files have), converts it in a
process of its own and prints time, peak resident memory and the size of the file.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from exits_jax.models.vit import SIZES

_CHILD = (
    "import resource, sys\n"
    "from convert_weights.__main__ import main\n"
    "status = main(sys.argv[1:])\n"
    "print('KB', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    "sys.exit(status)"
)


def main() -> None:
    """Prints one line per size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="base,large,huge")
    parser.add_argument("--suffix", default=".pth", choices=(".pth", ".safetensors"))
    args = parser.parse_args()
    for size in args.sizes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / f"source{args.suffix}"
            # In a process of its own, so that its memory is not inherited.
            code = f"from {__spec__.name} import draw; draw({size!r}, {str(source)!r})"
            subprocess.run([sys.executable, "-c", code], check=True)
            gigabytes = source.stat().st_size / 1e9
            began = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", _CHILD, source, f"--out={folder}/o.safetensors"],
                capture_output=True,
                text=True,
                check=True,
            )
            seconds = time.perf_counter() - began
            peak = int(done.stdout.rsplit("KB", 1)[1]) * 1024 / 1e9
        print(
            f"{size}: file {gigabytes:.2f} GB, {seconds:.1f} s, peak {peak:.2f} GB",
            flush=True,
        )


def draw(size: str, path: str) -> None:
    """Writes random weights of a ViT (patches of 14 px for "huge") under timm's names.

    Args:
        size: A key of `vit.SIZES`.
        path: A .pth file with everything under "model", or a .safetensors file.
    """
    dim, depth, _ = SIZES[size]
    patch = 14 if size == "huge" else 16
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, dim),
        "pos_embed": (1, 1 + (224 // patch) ** 2, dim),
        "patch_embed.proj.weight": (dim, 3, patch, patch),
        "patch_embed.proj.bias": (dim,),
        "norm.weight": (dim,),
        "norm.bias": (dim,),
    }
    for i in range(depth):
        for name, *shape in (
            ("norm1", dim),
            ("attn.qkv", 3 * dim, dim),
            ("attn.proj", dim, dim),
            ("norm2", dim),
            ("mlp.fc1", 4 * dim, dim),
            ("mlp.fc2", dim, 4 * dim),
        ):
            shapes[f"blocks.{i}.{name}.weight"] = tuple(shape)
            shapes[f"blocks.{i}.{name}.bias"] = (shape[0],)
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()
    }
    if path.endswith(".safetensors"):
        save_file(arrays, path)
        return
    import torch

    tensors = {name: torch.from_numpy(value) for name, value in arrays.items()}
    torch.save({"model": tensors}, path)


if __name__ == "__main__":
    main()
