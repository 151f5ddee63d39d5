"""What masks for new clicks cost: loading, one object, large images, ten in turn.

python -m benchmarks.predict --model=RUN_OR_FILE [--objects=50] [--sam]
python -m benchmarks.predict --config=voc [--config.model.dtype=float32] ...

With --config the weights are random: the cost does not depend on them. --sam puts
`segment_anything` beside it (ViT-B, random weights), if that is installed.
"""

import resource
import subprocess
import sys
import time

import numpy as np
from absl import app, flags, logging

from benchmarks.common import configuration
from benchmarks.common.turns import Turn, comparison, median, table, take_turns, timed
from exits_jax.labeling.model_source import Model
from exits_jax.predict.predictor import Predictor
from exits_jax.run.from_config import generator_builder, uses_generator, uses_walk
from exits_jax.run.starting_weights import random_params

_MODEL = flags.DEFINE_string("model", "", "A run, a generator's file or walk:ENCODER.")
_OBJECTS = flags.DEFINE_integer("objects", 50, "Objects predicted one by one.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Turns of what alternates.")
_SAM = flags.DEFINE_bool("sam", False, "Compare with segment_anything.")
_LARGE = flags.DEFINE_bool("large", True, "Measure on an image of 24 megapixels.")
SMALL, LARGE = (480, 640), (4000, 6000)  # height, width


def main(_: list[str]) -> None:
    """Measures and prints."""
    logging.set_verbosity(logging.WARNING)  # of what reads checkpoints
    predictor = _predictor()
    facts = predictor.model
    print(
        f"{facts.method}, crops of {facts.crop_size} px, {facts.dtype}, "
        f"flip {facts.flip}, {facts.name or 'random weights'}"
    )
    if _MODEL.value:
        _report("load in a new process, programs compiled before", _load_again())
    _report("first object", timed(predictor.warm_up))
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (*SMALL, 3), np.uint8)
    clicks = [_clicks(rng, SMALL) for _ in range(_OBJECTS.value)]
    predictor.set_image(image)
    turns = [timed(lambda c=c: predictor.predict(c)) for c in clicks]
    _report(f"one object, 640 x 480, median of {len(turns)}", median(turns))
    if _LARGE.value:
        large = rng.integers(0, 255, (*LARGE, 3), np.uint8)
        whole = np.array([[3000, 100], [100, 2000], [3000, 3900], [5900, 2000]])
        half = lambda: predictor.predict_many([whole // 2 + 500], image=large)[0].rle()
        full = lambda: predictor.predict_many([whole], image=large)[0].rle()
        for name, call in {"a quarter": half, "nearly all": full}.items():
            turns = [timed(call) for _ in range(_ROUNDS.value)]
            said = f"24 MP, box over {name} of it: crop, model, mask, run lengths"
            _report(said, median(turns))
    if _SAM.value:
        _beside_sam(predictor, image, clicks[:10])


def _predictor() -> Predictor:
    if _MODEL.value:
        return Predictor.load(_MODEL.value)
    config = configuration.given()
    build = {
        role: generator_builder(config, role=role)
        for role in ("generator", "extractor")
    }
    generators, encoder = [], None
    if uses_generator(config):
        generators = [random_params(config, build["generator"], salt=2)]
    if uses_walk(config):
        encoder = random_params(config, build["extractor"], salt=1)["encoder"]
    return Predictor(Model(config, generators, encoder, {}))


def _clicks(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Four clicks of an object of random place and size, [4, 2]."""
    height, width = size
    extent = rng.uniform(40, 200, 2)
    x0, y0 = rng.uniform(0, (width, height) - extent - 1)
    share = rng.uniform(0.2, 0.8, 4)
    wide, high = extent
    return np.array(
        [
            (x0 + share[0] * wide, y0),
            (x0, y0 + share[1] * high),
            (x0 + share[2] * wide, y0 + high),
            (x0 + wide, y0 + share[3] * high),
        ]
    )


def _load_again() -> Turn:
    """Imports, loads and compiles in a new process, for the second time."""
    code = (
        f"from exits_jax import Predictor; Predictor.load({_MODEL.value!r}).warm_up()"
    )
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        wall = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        wall = time.perf_counter() - wall
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Turn(wall, cpu)


def _beside_sam(predictor: Predictor, image: np.ndarray, clicks: list[np.ndarray]):
    """Ten objects of one image in turn, by both, alternating."""
    import torch
    from segment_anything import SamPredictor, sam_model_registry

    sam = SamPredictor(sam_model_registry["vit_b"]())
    boxes = [np.array([*c.min(axis=0), *c.max(axis=0)]) for c in clicks]

    def by_sam() -> None:
        with torch.no_grad():
            sam.set_image(image)
            for box in boxes:
                sam.predict(box=box, multimask_output=False)

    def by_us() -> None:
        predictor.set_image(image)
        for each in clicks:
            predictor.predict(each)

    turns = take_turns(
        {"ours": by_us, "segment_anything": by_sam}, rounds=_ROUNDS.value
    )
    print(table(turns, unit="s"))
    ours, theirs = turns["ours"], turns["segment_anything"]
    print(
        comparison("set_image and ten objects, ours over theirs", ours, theirs, "< 1")
    )


def _report(name: str, turn: Turn) -> None:
    print(f"{name:66s}{turn.wall_s:8.3f} s{turn.cpu_s:8.3f} CPU s", flush=True)


if __name__ == "__main__":
    app.run(main, argv=configuration.other_words())
