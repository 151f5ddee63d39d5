"""What each run minimises: (params, teacher, batch, step) -> (loss, metrics).

Losses come as one value per crop; the mean over valid crops is taken here, once.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from exits_jax.batch import Batch
from exits_jax.models.params import Params, bind
from exits_jax.ops.losses import (
    box_mask,
    crf_loss,
    mil_loss,
    point_loss,
    robust_loss,
)
from exits_jax.ops.mean_field import mean_field
from exits_jax.ops.placement import keep_rows_split
from exits_jax.ops.resize import resize_bilinear
from exits_jax.train.prompts import NO_NOISE, PromptNoise, batch_prompts

Metrics = dict[str, Float[Array, ""]]
LossFn = Callable[
    [Params, Params | None, Batch, Int[Array, ""]], tuple[Float[Array, ""], Metrics]
]
TRAINING_SIZES = ("medium", "large")  # what the baseline's area filter lets through


class ImageStats(NamedTuple):
    """Mean and standard deviation by which pixels in [0, 1] are normalised."""

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


class CrfOptions(NamedTuple):
    """The CRF of Eq. (9)."""

    num_rounds: int = 100
    colour_scale: float = 0.1
    image: str = "student"  # whose view gives the colours: "student" or "clean"


class Weights(NamedTuple):
    """Weights of the losses; a ramp of k steps rises from 0 to 1 over the first k."""

    mil: float
    point: float
    crf: float
    crf_ramp_steps: int
    mil_ramp_steps: int = 0
    mask: float = 0.0
    mask_exponent: float = 0.5


def normalise(pixels: Array, stats: ImageStats) -> Float[Array, "b h w 3"]:
    """uint8 pixels as the encoder wants them, float32."""
    mean, std = (jnp.array(v, jnp.float32)[None, None, None] for v in stats)
    return (pixels.astype(jnp.float32) / 255 - mean) / std


def mil_objective(
    graph: nnx.GraphDef,
    *,
    stats: ImageStats,
    sizes: tuple[str, ...] = TRAINING_SIZES,
) -> LossFn:
    """Box tightness alone, Eq. (1): the warm-up of the similarity extractor.

    No prompt is given: a box's own map would be the answer.
    """
    predict = partial(_probabilities, graph, stats=stats, sizes=sizes, noise=None)

    def loss_fn(params, teacher_params, batch, step):
        del teacher_params, step
        probs = predict(params, batch, batch["student_image"])
        loss = _mean(mil_loss(probs, _box_mask(batch, probs)), batch)
        return loss, {"loss/total": loss, "loss/mil": loss}

    return loss_fn


def exits_objective(
    graph: nnx.GraphDef,
    *,
    weights: Weights,
    crf: CrfOptions,
    stats: ImageStats,
    pooling: str,
    sizes: tuple[str, ...] = TRAINING_SIZES,
    noise: PromptNoise = NO_NOISE,
) -> LossFn:
    """L_overall of Eq. (10); the batch carries the supervision of `label_step`.

    The student's prompts, if the generator has any, suffer from `noise`; the teacher's
    do not.
    """
    predict = partial(_probabilities, graph, stats=stats, sizes=sizes)

    def loss_fn(params, teacher_params, batch, step):
        probs = predict(params, batch, batch["student_image"], noise=noise)
        box = _box_mask(batch, probs)
        on_points = point_loss(
            probs,
            batch["target"],
            batch["known"],
            batch["is_empty"],
            box,
            mil_weight=weights.mil,
            pooling=pooling,
        )
        point = _mean(on_points, batch)
        teacher = predict(teacher_params, batch, batch["image"], noise=NO_NOISE)
        refined = _refined(batch, (probs + teacher) / 2, box, crf, stats)
        colour = _mean(crf_loss(probs, refined), batch)
        ramp = _ramp(step, weights.crf_ramp_steps)
        loss = weights.point * point + ramp * weights.crf * colour
        found = {"loss/point": point, "loss/crf": colour, "loss/crf_ramp": ramp}
        if weights.mask:
            found["loss/mask"] = _mean(_mask_loss(batch, probs, weights), batch)
            loss = loss + weights.mask * found["loss/mask"]
        return loss, {"loss/total": loss, **found}

    return loss_fn


def box_objective(
    graph: nnx.GraphDef,
    *,
    weights: Weights,
    crf: CrfOptions,
    stats: ImageStats,
    sizes: tuple[str, ...] = TRAINING_SIZES,
    noise: PromptNoise = NO_NOISE,
) -> LossFn:
    """MIL and CRF on every crop and no point: the paper's baseline, Table 5 row 1.

    Prompts are given as by `exits_objective`.
    """
    predict = partial(_probabilities, graph, stats=stats, sizes=sizes)

    def loss_fn(params, teacher_params, batch, step):
        probs = predict(params, batch, batch["student_image"], noise=noise)
        box = _box_mask(batch, probs)
        tightness = _mean(mil_loss(probs, box), batch)
        teacher = predict(teacher_params, batch, batch["image"], noise=NO_NOISE)
        refined = _refined(batch, (probs + teacher) / 2, box, crf, stats)
        colour = _mean(crf_loss(probs, refined), batch)
        ramp = _ramp(step, weights.crf_ramp_steps)
        rise = _ramp(step, weights.mil_ramp_steps)
        loss = rise * weights.mil * tightness + ramp * weights.crf * colour
        return loss, {
            "loss/total": loss,
            "loss/mil": tightness,
            "loss/crf": colour,
            "loss/crf_ramp": ramp,
        }

    return loss_fn


def autoencoder_objective(graph: nnx.GraphDef, *, stats: ImageStats) -> LossFn:
    """Reconstruction of hidden patches of the clean view."""

    def loss_fn(params, teacher_params, batch, step):
        del teacher_params, step
        keys = jax.vmap(jax.random.key)(batch["seed"])
        image = normalise(batch["image"], stats)
        loss = _mean(bind(graph, params)(image, keys), batch)
        return loss, {"loss/total": loss, "loss/reconstruction": loss}

    return loss_fn


def _probabilities(
    graph, params, batch, pixels, *, stats, sizes, noise: PromptNoise | None
) -> Float[Array, "b m m"]:
    """Predicted masks; `noise` is that of the prompts, None goes without prompts."""
    model = bind(graph, params)
    prompt = None if noise is None else batch_prompts(model, batch, noise=noise)
    logits = model(normalise(pixels, stats), batch["box_area"], prompt, sizes=sizes)
    return keep_rows_split(jax.nn.sigmoid(logits.astype(jnp.float32)))


def _mask_loss(batch: Batch, probs: Array, weights: Weights) -> Float[Array, " b"]:
    """Against the stored masks, where there is one that came from clicks."""
    loss = robust_loss(probs, batch["soft_mask"], exponent=weights.mask_exponent)
    return jnp.where(batch["is_labeled"], loss, 0.0)


def _box_mask(batch: Batch, probs: Array) -> Float[Array, "b m m"]:
    return box_mask(
        batch["box"],
        crop_size=batch["student_image"].shape[1],
        mask_size=probs.shape[1],
    )


def _refined(batch, average, box, crf: CrfOptions, stats) -> Float[Array, "b m m"]:
    """CRF(M^avg): the average of student and teacher refined, without a gradient."""
    view = batch["student_image"] if crf.image == "student" else batch["image"]
    colours = resize_bilinear(normalise(view, stats), *average.shape[1:])
    refined = mean_field(
        colours,
        jax.lax.stop_gradient(average),
        box,
        num_rounds=crf.num_rounds,
        colour_scale=crf.colour_scale,
    )
    return jax.lax.stop_gradient(refined)


def _ramp(step: Int[Array, ""], ramp_steps: int) -> Float[Array, ""]:
    if ramp_steps == 0:
        return jnp.ones(())
    return jnp.minimum(1.0, step.astype(jnp.float32) / ramp_steps)


def _mean(per_crop: Float[Array, " b"], batch: Batch) -> Float[Array, ""]:
    valid = batch["valid"].astype(jnp.float32)
    kept = jnp.where(batch["valid"], per_crop, 0.0)
    return kept.sum() / jnp.maximum(valid.sum(), 1)
