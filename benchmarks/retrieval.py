"""Cost of Sinkhorn and of the random walk at N = 1024 points, all in turn.

python -m benchmarks.retrieval [--points 1024] [--batches 1 4] [--turns 11]

The walk is carried as vectors; the powers of the matrix that Eq. (3) names, and the
inverse that Eq. (a2) names, are formed here for comparison.
"""

import argparse
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array

from benchmarks.common.turns import comparison, table, take_turns
from exits_jax.ops.propagation import (
    converged_scores,
    converged_transition,
    propagation_scores,
    transition_power,
)
from exits_jax.ops.transition import EXACT, transition_matrix


def main(arguments: list[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=1024)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--turns", type=int, default=11)
    options = parser.parse_args(arguments)
    for batch in options.batches:
        _measure(options.points, batch, options.turns)


def _measure(points: int, batch: int, turns: int) -> None:
    similarity = drawn_similarity(points, batch)
    start = jax.random.uniform(jax.random.key(1), (batch, 2, points))
    start = start / start.sum(axis=-1, keepdims=True)
    transition = transition_matrix(similarity)
    walk = {
        f"{hops} hop{'s' * (hops > 1)}, vectors": _bound(
            partial(propagation_scores, num_hops=hops), transition, start
        )
        for hops in (1, 2, 3, 4)
    }
    powers = {
        f"T^{hops} by products, and its rows": _bound(
            partial(_scores_by_power, num_hops=hops), transition, start
        )
        for hops in (2, 3, 4)
    }
    sinkhorn = {
        f"Sinkhorn, {rounds} rounds, and T": _bound(
            partial(transition_matrix, num_rounds=rounds), similarity
        )
        for rounds in (10, 20, 50)
    }
    converged = {
        "T^infinity, two right sides": _bound(converged_scores, transition, start),
        "T^infinity by a general solve": _bound(_scores_by_inverse, transition, start),
    }
    times = take_turns(sinkhorn | walk | powers | converged, rounds=turns)
    print(f"\n{points} points, batch {batch}\n")
    print(table(times) + "\n")
    vectors, product = times["3 hops, vectors"], times["T^3 by products, and its rows"]
    print(comparison("3 hops, vectors over T^3", vectors, product, "0.03 or less"))
    cheap, general = (times[name] for name in converged)
    print(comparison("T^infinity, ours over general", cheap, general, "below 1"))
    print(flush=True)


def drawn_similarity(points: int, batch: int) -> Array:
    """Attention as a trained encoder has it: a few points get most of each row."""
    scores = jax.random.normal(jax.random.key(0), (batch, points, points))
    return jax.nn.softmax(2 * scores, axis=-1)


def _scores_by_power(transition: Array, start: Array, *, num_hops: int) -> Array:
    power = transition_power(transition, num_hops=num_hops)
    return jnp.matmul(start, power, precision=EXACT)


def _scores_by_inverse(transition: Array, start: Array) -> Array:
    return jnp.matmul(start, converged_transition(transition), precision=EXACT)


def _bound(function, *arrays: Array):
    """A compiled call without arguments."""
    compiled = jax.jit(function)
    return lambda: compiled(*arrays)


if __name__ == "__main__":
    main()
