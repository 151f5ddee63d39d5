"""The two compiled halves of a step: make the supervision, then learn from it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float

from exits_jax.batch import Batch
from exits_jax.models.params import Params, bind
from exits_jax.models.similarity import similarity
from exits_jax.ops.labels import drop_points, supervision
from exits_jax.ops.photometric import Changes, student_view
from exits_jax.ops.placement import keep_rows_split
from exits_jax.ops.points import InitialPoints, initial_points
from exits_jax.ops.retrieval import PseudoPoints, retrieve_points
from exits_jax.ops.warp import warp_maps
from exits_jax.train.objectives import ImageStats, LossFn, Metrics, normalise
from exits_jax.train.prompts import batch_prompts, mirror_batch
from exits_jax.train.state import TrainState


class PointOptions(NamedTuple):
    """How a crop's points are labeled (Sec. 3.2); see `configs/base.py`."""

    layers: tuple[int, ...]
    num_hops: int | None
    fg_threshold: float
    bg_threshold: float
    num_rounds: int
    blend: float
    dropout_rate: float
    inward_margin_px: float
    background: str
    use_padding: bool
    use_pseudo: bool


class Retrieved(NamedTuple):
    """Everything the point retrieval found out about a batch."""

    initial: InitialPoints
    pseudo: PseudoPoints  # before dropout


def retrieve(
    graph: nnx.GraphDef,
    extractor_params: Params,
    batch: Batch,
    *,
    options: PointOptions,
    stats: ImageStats,
    patch_size: int,
) -> Retrieved:
    """Point retrieval (Sec. 3.2.1, 3.2.2) on the clean view of each crop."""
    image = normalise(batch["image"], stats)
    initial = batch_points(batch, options=options, patch_size=patch_size)
    extractor = bind(graph, extractor_params)
    pseudo = retrieve_points(
        similarity(extractor, image, layers=options.layers),
        initial,
        num_hops=options.num_hops,
        fg_threshold=options.fg_threshold,
        bg_threshold=options.bg_threshold,
        num_rounds=options.num_rounds,
        blend=options.blend,
    )
    return Retrieved(initial, pseudo)


def batch_points(
    batch: Batch, *, options: PointOptions, patch_size: int
) -> InitialPoints:
    """What the annotations of a batch say about its points."""
    return initial_points(
        batch["extreme_points"],
        batch["has_points"],
        batch["box"],
        batch["valid_region"],
        crop_size=batch["image"].shape[1],
        patch_size=patch_size,
        inward_margin_px=options.inward_margin_px,
        background=options.background,
        use_padding=options.use_padding,
    )


def label_step(
    graph: nnx.GraphDef,
    extractor_params: Params,
    batch: Batch,
    *,
    options: PointOptions,
    stats: ImageStats,
    patch_size: int,
) -> tuple[Batch, Metrics]:
    """The supervision of a batch (target, known, is_empty), and what it is like.

    The frozen parameters are an argument: a compiled function would otherwise carry
    them as constants.
    """
    if options.use_pseudo:
        initial, pseudo = retrieve(
            graph,
            extractor_params,
            batch,
            options=options,
            stats=stats,
            patch_size=patch_size,
        )
    else:  # Table 5, row 2: the annotated points alone
        initial = batch_points(batch, options=options, patch_size=patch_size)
        nothing = jnp.zeros_like(initial.fg)
        zeros = jnp.zeros(nothing.shape, jnp.float32)
        pseudo = PseudoPoints(nothing, nothing, zeros, zeros[:, 0])
    is_empty = pseudo.is_empty  # decided before dropout
    kept = drop_points(pseudo, batch["seed"], dropout_rate=options.dropout_rate)
    labels = supervision(initial, kept, is_empty=is_empty)
    made: Batch = {
        "target": labels.target,
        "known": labels.known,
        "is_empty": labels.is_empty,
    }
    return made, point_metrics(Retrieved(initial, pseudo), batch["valid"])


def stored_label_step(
    batch: Batch,
    *,
    options: PointOptions,
    fg_probability: float,
    bg_probability: float,
    patch_size: int,
    mask_ratio: int,
) -> tuple[Batch, Metrics]:
    """The supervision of a batch from labels that were made once per object.

    The stored maps are warped into the crops before points are taken from them and
    dropped. Adds the walk's probabilities and the soft masks, both in the crop's frame.

    Args:
        batch: Crops with the maps "stored_walk" and "stored_mask" and where these lie
            in them, "label_region".
        options: Rules of the annotated points, and the dropout.
        fg_probability: From here on a patch in the box is a point of the object.
        bg_probability: Up to here it is a point of the background.
        patch_size: Side of a patch, px.
        mask_ratio: Cells of the masks along a patch.
    """
    crop_size = batch["image"].shape[1]
    grid = crop_size // patch_size
    warp = lambda maps, side: warp_maps(
        maps.astype(jnp.float32) / 255,
        batch["label_region"],
        crop_size=crop_size,
        grid=side,
    )
    walk = warp(batch["stored_walk"], grid)
    mask = warp(batch["stored_mask"], grid * mask_ratio)
    initial = batch_points(batch, options=options, patch_size=patch_size)
    flat = walk.reshape(walk.shape[0], -1)
    # Nothing at all is what an image left that could not be read at the time.
    is_labeled = batch["has_points"] & (batch["stored_mask"] > 0).any(axis=(1, 2))
    candidates = initial.unlabeled & is_labeled[:, None]
    pseudo = PseudoPoints(
        fg=candidates & (flat >= fg_probability),
        bg=candidates & (flat <= bg_probability),
        margin=flat,
        residual=jnp.zeros(flat.shape[:1]),
    )
    kept = drop_points(pseudo, batch["seed"], dropout_rate=options.dropout_rate)
    labels = supervision(initial, kept, is_empty=pseudo.is_empty)
    made: Batch = {
        "target": labels.target,
        "known": labels.known,
        "is_empty": labels.is_empty,
        "walk": walk,
        "soft_mask": mask,
        "is_labeled": is_labeled,
    }
    return made, point_metrics(Retrieved(initial, pseudo), batch["valid"])


def point_metrics(found: Retrieved, valid: Array) -> Metrics:
    """Shares of the points of the box that were labeled, and of crops without any."""
    initial, pseudo = found
    valid = valid.astype(jnp.float32)
    num_valid = jnp.maximum(valid.sum(), 1)
    mean = lambda x: (x * valid).sum() / num_valid
    in_box = jnp.maximum(initial.unlabeled.sum(axis=1), 1)
    share = lambda points: mean(points.sum(axis=1) / in_box)
    return {
        "points/pseudo_fg_fraction": share(pseudo.fg),
        "points/pseudo_bg_fraction": share(pseudo.bg),
        "points/mil_fallback_fraction": mean(pseudo.is_empty.astype(jnp.float32)),
        "points/sinkhorn_residual": (pseudo.residual * valid).max(),
    }


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    teacher_decay: float,
    num_parts: int = 1,
) -> tuple[TrainState, Metrics]:
    """Moves the student along the gradient, then the teacher towards the student.

    A step whose loss or gradient is not finite changes nothing but the count of steps
    and says so in the metric "optimizer/skipped". Pure: the caller compiles it and
    donates `state`.

    Args:
        state: The state before.
        batch: Crops with their supervision.
        loss_fn: What to minimise.
        optimizer: The rule of the update.
        schedule: Its learning rate, for the metrics.
        teacher_decay: Share of the teacher that stays.
        num_parts: Parts of the batch that are computed one after the other, to save
            memory. Static; the rows are a multiple of it.
    """
    batch = with_student_view(batch)
    grads, metrics = _gradient(loss_fn, state, batch, num_parts)
    norm = jnp.asarray(optax.tree.norm(grads))
    is_good = jnp.isfinite(metrics["loss/total"]) & jnp.isfinite(norm)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    teacher_params = state.teacher_params
    if teacher_params is not None:
        teacher_params = optax.incremental_update(
            params, teacher_params, step_size=1.0 - teacher_decay
        )
    moved = state.replace(
        params=params, teacher_params=teacher_params, opt_state=opt_state
    )
    kept = jax.tree.map(lambda new, old: jnp.where(is_good, new, old), moved, state)
    more = {
        "optimizer/grad_norm": norm,
        "optimizer/learning_rate": jnp.asarray(schedule(state.step)),
        "optimizer/skipped": 1.0 - is_good.astype(jnp.float32),
    }
    return kept.replace(step=state.step + 1), metrics | more


def with_student_view(batch: Batch) -> Batch:
    """Adds the student's view where the input left it to the device."""
    if "student_image" in batch:
        return batch
    view = batch["image"]
    if "jitter_order" in batch:  # else nothing is to be changed
        changes = Changes(
            jitter_order=batch["jitter_order"],
            jitter_amounts=batch["jitter_amounts"],
            is_grey=batch["is_grey"],
            blur_kernel=batch["blur_kernel"],
        )
        view = student_view(view, changes)
    return batch | {"student_image": keep_rows_split(view)}


def _gradient(
    loss_fn: LossFn, state: TrainState, batch: Batch, num_parts: int
) -> tuple[Params, Metrics]:
    """Gradient and metrics of the mean over the valid rows, in parts if wanted.

    Part k takes the rows k, k + num_parts, ...: then every device has its share of
    every part.
    """
    of_rows = jax.grad(loss_fn, has_aux=True)
    if num_parts == 1:
        return of_rows(state.params, state.teacher_params, batch, state.step)
    parts = jax.tree.map(
        lambda x: x.reshape(x.shape[0] // num_parts, num_parts, *x.shape[1:]), batch
    )
    total = jnp.maximum(batch["valid"].sum(), 1)

    def add(sums, part):
        rows = jax.tree.map(lambda x: keep_rows_split(x[:, part]), parts)
        found = of_rows(state.params, state.teacher_params, rows, state.step)
        share = rows["valid"].sum() / total
        return jax.tree.map(lambda sum, x: sum + share * x, sums, found), None

    shapes = jax.eval_shape(
        of_rows,
        state.params,
        state.teacher_params,
        jax.tree.map(lambda x: x[:, 0], parts),
        state.step,
    )
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return jax.lax.scan(add, zeros, jnp.arange(num_parts))[0]


def predict_step(
    graph: nnx.GraphDef,
    params: Params,
    batch: Batch,
    *,
    stats: ImageStats,
    flip: bool,
) -> Float[Array, "b m m"]:
    """Mask logits of a batch; with `flip`, averaged with those of the mirror image.

    Prompts, if the generator has any, are made from the batch without noise.
    """
    model = bind(graph, params)

    def predict(batch: Batch) -> Float[Array, "b m m"]:
        image = normalise(batch["image"], stats)
        prompt = batch_prompts(model, batch)
        return model(image, batch["box_area"], prompt).astype(jnp.float32)

    logits = predict(batch)
    if flip:
        mirrored = predict(mirror_batch(batch))
        logits = (logits + mirrored[:, :, ::-1]) / 2
    return logits
