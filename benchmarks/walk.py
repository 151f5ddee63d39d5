"""Cost of a mask without training: encoder, walk and dense CRF, in turn.

python -m benchmarks.walk [--size tiny] [--crop 224] [--batch 16] [--grids 28 40 56]
                          [--turns 7]

Random weights and pixels: the cost does not depend on them. Memory is what the compiled
program of a whole batch takes beside what it is given and returns.
"""

import argparse
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.common.turns import median, take_turns
from exits_jax.models.params import abstract_graph, bind, init_params
from exits_jax.models.vit import VisionTransformer, vit_config
from exits_jax.ops.clicks import Clicks
from exits_jax.ops.walk import WalkOptions, walk_probability
from exits_jax.train.predict import DenseCrf, refined_logits

# How configs/base.py has it.
CRF = DenseCrf(56, 5, 3.0, 0.1, 5.0, 1.0, 0.03)


def main(arguments: list[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--crop", type=int, default=224)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--grids", type=int, nargs="+", default=[28, 40, 56])
    parser.add_argument("--turns", type=int, default=7)
    options = parser.parse_args(arguments)
    calls = _calls(options.size, options.crop, options.batch, options.grids)
    turns = take_turns(
        {name: call.run for name, call in calls.items()}, rounds=options.turns
    )
    print(f"ViT-{options.size}, {options.crop} px, {options.batch} objects at a time")
    print(f"{'ms per object; MiB of a batch':44s}{'clock':>8s}{'CPU':>8s}{'MiB':>8s}")
    for name, taken in turns.items():
        wall, cpu = (1000 * t / options.batch for t in median(taken))
        print(f"{name:44s}{wall:8.1f}{cpu:8.1f}{calls[name].memory_mib():8.0f}")


class Call(NamedTuple):
    """A compiled function and what it is called with."""

    function: Any  # as `jax.jit` makes it
    arguments: tuple[Any, ...]

    def run(self) -> Any:
        """Calls it."""
        return self.function(*self.arguments)

    def memory_mib(self) -> float:
        """What its program needs for the time it runs, MiB."""
        plan = self.function.lower(*self.arguments).compile().memory_analysis()
        return plan.temp_size_in_bytes / 2**20


def _calls(size: str, crop: int, batch: int, grids: list[int]) -> dict[str, Call]:
    """Each part by name."""
    build = lambda rngs: VisionTransformer(
        vit_config(size, attention="auto"), rngs=rngs
    )
    graph = abstract_graph(build)
    params = init_params(build, jax.random.key(0))
    pixels = jax.random.uniform(jax.random.key(1), (batch, crop, crop, 3))
    grid = crop // 16
    points = jnp.array([(0.5, 0.2), (0.2, 0.6), (0.4, 0.8), (0.8, 0.4)]) * crop
    whole = jnp.tile(jnp.array([[0.0, 0.0, crop, crop]]), (batch, 1))
    clicks = Clicks(
        extreme_points=jnp.tile(points[None], (batch, 1, 1)),
        has_points=jnp.ones(batch, bool),
        box=0.2 * crop + 0.6 * whole,
        valid_region=whole,
    )

    @jax.jit
    def encode(params, pixels):
        encoder = bind(graph, params)
        layers = tuple(range(1, len(encoder.blocks) + 1))
        maps, features = encoder.attention_and_features(pixels, layers=layers, block=10)
        return jnp.stack(maps).mean(axis=0)[:, 1:, 1:], features[:, 1:]

    similarity, features = encode(params, pixels)
    walk = jax.jit(
        partial(walk_probability, crop_size=crop, options=WalkOptions()),
    )
    plain = jax.jit(
        partial(walk_probability, crop_size=crop, options=WalkOptions(ridge_rounds=0))
    )
    image = jnp.rint(255 * pixels).astype(jnp.uint8)
    rows = {"image": image, **clicks._asdict()}
    logits = jax.random.normal(jax.random.key(2), (batch, grid, grid))
    calls = {
        "encoder, attention of all layers": Call(encode, (params, pixels)),
        "walk": Call(walk, (similarity, features, clicks)),
        "walk without the linear classifier": Call(plain, (similarity, None, clicks)),
    }
    for side in grids:
        refine = jax.jit(
            partial(
                refined_logits, crf=CRF._replace(grid=side), click_depth=0.15, cut=0.5
            )
        )
        calls[f"dense CRF, {side} x {side} nodes"] = Call(refine, (logits, rows))
    return calls


if __name__ == "__main__":
    main()
