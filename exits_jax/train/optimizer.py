"""AdamW with the baseline's schedule (Sec. 4.1; the rest is the baseline's)."""

import jax.numpy as jnp
import optax


def learning_rate(
    *, peak: float, num_steps: int, warmup_steps: int, floor: float = 0.2
) -> optax.Schedule:
    """Linear from 0 to `peak`, then half a cosine down to `floor * peak`.

    Step k of the warm-up uses (k + 1) / warmup_steps, so that no step is lost to a
    learning rate of 0.
    """

    def schedule(step):
        step = jnp.asarray(step, jnp.float32)
        rising = (step + 1) / max(warmup_steps, 1)
        progress = (step - warmup_steps) / max(num_steps - warmup_steps, 1)
        cosine = (1 + jnp.cos(jnp.pi * jnp.clip(progress, 0, 1))) / 2
        return peak * jnp.where(
            step < warmup_steps, rising, floor + (1 - floor) * cosine
        )

    return schedule


def adamw(
    schedule: optax.Schedule, *, betas: tuple[float, float], weight_decay: float
) -> optax.GradientTransformation:
    """AdamW whose decay covers every parameter, biases and position table included."""
    return optax.adamw(
        schedule, b1=betas[0], b2=betas[1], eps=1e-8, weight_decay=weight_decay
    )
