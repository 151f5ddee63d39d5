"""Mean field of Eq. (9): ours against plain PyTorch, in turn, in one process.

python -m benchmarks.mean_field [--sizes 512 128] [--batch 1] [--num_rounds 100] \
    [--turns 11]

512 is the side of a crop, 128 that of the masks on which training runs it.
"""

import argparse
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks.common.turns import comparison, num_cores, table, take_turns
from benchmarks.plain_torch import torch_mean_field
from exits_jax.ops.mean_field import mean_field


def main(arguments: list[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 128])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--num_rounds", type=int, default=100)
    parser.add_argument("--turns", type=int, default=11)
    options = parser.parse_args(arguments)
    torch.set_num_threads(num_cores())
    for size in options.sizes:
        _compare(size, options.batch, options.num_rounds, options.turns)


def _compare(size: int, batch: int, num_rounds: int, turns: int) -> None:
    scene = drawn_scene(size, batch)
    ours = jax.jit(partial(mean_field, num_rounds=num_rounds))
    arrays = [jnp.asarray(array) for array in scene]
    image, probs, box = (torch.from_numpy(array) for array in scene)
    planes = image.permute(0, 3, 1, 2).contiguous()
    plain = partial(
        torch_mean_field.mean_field, planes, probs, box, num_rounds=num_rounds
    )
    differing = int((np.asarray(ours(*arrays)) != plain().numpy()).sum())
    calls = {"exits_jax": lambda: ours(*arrays), "PyTorch": plain}
    times = take_turns(calls, rounds=turns)
    print(f"\n{size} x {size} px, batch {batch}, {num_rounds} rounds\n")
    print(table(times) + "\n")
    print(comparison("ratio", times["exits_jax"], times["PyTorch"], "0.05 or less"))
    print(f"pixels that differ: {differing} of {probs.numel()}", flush=True)


def drawn_scene(size: int, batch: int) -> list[np.ndarray]:
    """Noisy two-coloured images, noisy guesses of the disc in them, and boxes."""
    rng = np.random.default_rng(0)
    y, x = (np.indices((size, size)) + 0.5) / size
    disc = (x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.1
    shape = (batch, size, size)
    image = disc[..., None] * [1.0, -0.5, 0.25] + rng.normal(0, 0.08, (*shape, 3))
    probs = (0.2 + 0.6 * disc + rng.normal(0, 0.2, shape)).clip(0, 1)
    box = np.broadcast_to((abs(x - 0.5) < 0.35) & (abs(y - 0.5) < 0.35), shape)
    return [array.astype(np.float32) for array in (image, probs, box)]


if __name__ == "__main__":
    main()
