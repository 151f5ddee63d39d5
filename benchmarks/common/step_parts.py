"""The parts of a training step, each as a call of its own."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import ml_collections as mlc
import optax

from benchmarks.common.step_methods import Start, optimizer_of
from benchmarks.plain_torch.torch_step import TorchStep, box_mask, mil_loss
from exits_jax.models.params import abstract_graph, bind
from exits_jax.models.similarity import similarity
from exits_jax.ops import losses
from exits_jax.ops.mean_field import mean_field
from exits_jax.ops.resize import resize_bilinear
from exits_jax.ops.retrieval import retrieve_points
from exits_jax.run.from_config import (
    crf_options,
    extractor_graph,
    generator_builder,
    image_stats,
    point_options,
    training_sizes,
)
from exits_jax.train.objectives import mil_objective, normalise
from exits_jax.train.step import batch_points

PARTS = (
    "extractor",
    "Sinkhorn, propagation, retrieval",
    "student, forward and backward",
    "teacher, forward",
    "mean field",
    "optimizer and moving average",
)
Calls = dict[str, Callable[[], object]]


def jax_parts(config: mlc.ConfigDict, start: Start, batch) -> Calls:
    """Compiled calls of ours by the names of `PARTS`.

    The student's loss is Eq. (1) alone here: its gradient costs what the network does.
    """
    stats, crf = image_stats(config), crf_options(config)
    options, sizes = point_options(config, {}), training_sizes(config)
    extractor = extractor_graph(config)
    generator = abstract_graph(generator_builder(config, role="generator"))

    def extract(params, rows):
        image = normalise(rows["image"], stats)
        return similarity(bind(extractor, params), image, layers=options.layers)

    def retrieve(matrix, rows):
        patch_size = config.model.patch_size
        return retrieve_points(
            matrix,
            batch_points(rows, options=options, patch_size=patch_size),
            num_hops=options.num_hops,
            fg_threshold=options.fg_threshold,
            bg_threshold=options.bg_threshold,
            num_rounds=options.num_rounds,
            blend=options.blend,
        )

    def teach(params, rows):
        model, image = bind(generator, params), normalise(rows["image"], stats)
        return jax.nn.sigmoid(model(image, rows["box_area"], sizes=sizes))

    def refine(average, rows):
        colours = normalise(rows["student_image"], stats)
        return mean_field(
            resize_bilinear(colours, *average.shape[1:]),
            average,
            losses.box_mask(
                rows["box"],
                crop_size=config.crop.size,
                mask_size=average.shape[1],
            ),
            num_rounds=crf.num_rounds,
            colour_scale=crf.colour_scale,
        )

    learn = jax.grad(mil_objective(generator, stats=stats, sizes=sizes), has_aux=True)
    compiled = {
        "extract": jax.jit(extract),
        "retrieve": jax.jit(retrieve),
        "learn": jax.jit(lambda params, rows: learn(params, None, rows, jnp.int32(0))),
        "teach": jax.jit(teach),
        "refine": jax.jit(refine),
    }
    matrix = compiled["extract"](start.extractor, batch)
    average = compiled["teach"](start.generator, batch)
    gradient, _ = compiled["learn"](start.generator, batch)
    calls = (
        partial(compiled["extract"], start.extractor, batch),
        partial(compiled["retrieve"], matrix, batch),
        partial(compiled["learn"], start.generator, batch),
        partial(compiled["teach"], start.generator, batch),
        partial(compiled["refine"], average, batch),
        _update(config, start, gradient),
    )
    return dict(zip(PARTS, calls, strict=True))


def _update(config: mlc.ConfigDict, start: Start, gradient):
    """AdamW and moving average on copies of their own, donated as in the step."""
    optimizer, _ = optimizer_of(config)
    params, teacher = (jax.tree.map(jnp.copy, start.generator) for _ in range(2))
    carried = [params, teacher, optimizer.init(params)]

    @partial(jax.jit, donate_argnums=0)
    def move(state, grads):
        params, teacher, opt_state = state
        updates, opt_state = optimizer.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        step_size = 1.0 - config.train.teacher_decay
        return [
            params,
            optax.incremental_update(params, teacher, step_size=step_size),
            opt_state,
        ]

    def call():
        carried[:] = move(carried, gradient)
        return carried

    return call


def torch_parts(step: TorchStep, batch) -> Calls:
    """The same parts of the PyTorch step."""
    matrix, average = step.similarity(batch), step.teach(batch)
    box = box_mask(batch, average.shape[-1])

    def learn():
        step.optimizer.zero_grad()
        mil_loss(step.predict(batch), box).mean().backward()

    def update():  # keeps the gradient that the student's part left
        gradients = [parameter.grad for parameter in step.student.parameters()]
        step.update()
        for parameter, gradient in zip(step.student.parameters(), gradients):
            parameter.grad = gradient

    calls = (
        partial(step.similarity, batch),
        partial(step.labels, batch, matrix),
        learn,
        partial(step.teach, batch),
        partial(step.refine, batch, average, box),
        update,
    )
    return dict(zip(PARTS, calls, strict=True))
