"""Masks for clicks on images that no training has seen, from Python."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from exits_jax.batch import Batch, stack
from exits_jax.data.crops import Window, test_margins
from exits_jax.data.images import ImageError, read_image
from exits_jax.data.records import Instance
from exits_jax.data.samples import crop_sample
from exits_jax.labeling.label import ROWS, logits_of
from exits_jax.labeling.model_source import (
    Model,
    digest_of_model,
    find_model,
    on_devices,
)
from exits_jax.labeling.prediction import Prediction
from exits_jax.predict.clicks import annotation
from exits_jax.predict.errors import NoImageSet
from exits_jax.run.check_weights import WeightsError
from exits_jax.run.from_config import method_name
from exits_jax.run.programs import keep_programs
from exits_jax.train.sharding import local_rows, make_mesh

DTYPES = ("float32", "bfloat16")
Image = np.ndarray | str | Path


class ModelFacts(NamedTuple):
    """What a predictor's masks are made with."""

    name: str  # as it was loaded
    method: str  # "EXITS", "EXITS and walk", "MIL + CRF" or "walk alone"
    crop_size: int  # side of the crop that the model sees, px
    threshold: float  # probability above which a pixel is mask
    weights: str  # "student", "teacher" or "both"; "encoder" of a walk alone
    flip: bool  # averaged with the prediction on the mirror image
    dtype: str  # of activations
    licence: str  # of the weights that the training started from
    started_from: str  # their name
    sha256: str  # of all parameters


class Predictor:
    """A model that makes the mask of an object from four clicks, or from its box.

    The same clicks give the same run lengths as `exits-jax generate`, but for its
    `generate.layers`: clicks have no class. Threads may share a predictor: its only
    state is the current image.
    """

    def __init__(self, model: Model, name: str = ""):
        """Takes over a model; `load` finds one.

        Args:
            model: Parameters and the configuration that decides the masks.
            name: What to call it.
        """
        self._model, self._name = model, name
        config = self._config = model.config
        mesh = make_mesh(devices=jax.local_devices()[:1])
        self._predict = logits_of(config, mesh, on_devices(config, model, mesh))
        # A CPU takes eight crops eight times as long as one: one program is enough.
        self._batch = 1 if jax.default_backend() == "cpu" else 8
        self._image: np.ndarray | None = None

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        weights: str | None = None,
        dtype: str | None = None,
        threshold: float | None = None,
        crop_size: int | None = None,
    ) -> "Predictor":
        """Finds a model; compiled programs are kept in the user's cache folder.

        Args:
            model: The folder of a finished run, a generator's .safetensors file, or
                "walk:" and the file of an encoder, for masks without any training.
            weights: "student", "teacher" or "both" of a run; None: as it says.
            dtype: "float32" or "bfloat16" for activations; None: as the model says.
            threshold: Probability above which a pixel is mask; None: likewise.
            crop_size: Side of the crop, px; None: likewise.

        Raises:
            FileNotFoundError: If there is no such model; says how to make it.
            WeightsError: If it cannot make masks, or an option is none; says why.
        """
        keep_programs()
        found = find_model(str(model), weights=weights)
        config = found.config
        if dtype is not None:
            _expect(dtype in DTYPES, f"dtype is {dtype!r}; known: {', '.join(DTYPES)}")
            config.model.dtype = dtype
        if threshold is not None:
            said = f"threshold is {threshold}; it must lie in (0, 1)"
            _expect(0 < threshold < 1, said)
            config.generate.threshold = threshold
        if crop_size is not None:
            patch = config.model.patch_size
            said = f"crop_size is {crop_size}; a multiple of {patch} px is expected"
            _expect(crop_size > 0 and crop_size % patch == 0, said)
            config.crop.size = crop_size
        return cls(found, str(model))

    @cached_property
    def model(self) -> ModelFacts:
        """What the masks are made with, and where it comes from."""
        config, facts = self._config, self._model.facts
        trained = bool(self._model.generators)
        return ModelFacts(
            name=self._name,
            method=method_name(config),
            crop_size=config.crop.size,
            threshold=config.generate.threshold,
            weights=config.generate.weights if trained else "encoder",
            flip=config.generate.flip and trained,
            dtype=config.model.dtype,
            licence=str(facts.get("init_licence") or "unknown"),
            started_from=str(facts.get("init_weights") or "random weights"),
            sha256=digest_of_model(self._model),
        )

    def warm_up(self) -> None:
        """Compiles what `predict` needs; the first call does it otherwise."""
        size = self._config.crop.size
        blank = np.zeros((size, size, 3), np.uint8)
        self.predict_many([(0, 0, size, size)], image=blank)

    def set_image(self, image: Image) -> None:
        """The image that clicks refer to from now on.

        Args:
            image: A file, whose stored pixels count whatever its EXIF orientation, or
                uint8 [height, width, 3] RGB, which is not copied.

        Raises:
            FileNotFoundError: If there is no such file.
            ImageError: If it is no whole image, or an array of another kind.
        """
        self._image = as_pixels(image)

    def predict(
        self, clicks: Any, *, image: Image | None = None
    ) -> tuple[np.ndarray, float]:
        """The mask of one object.

        Args:
            clicks: Its topmost, leftmost, bottommost and rightmost point, [4, 2], in
                any order, (x, y) px with (0, 0) the centre of the first pixel; or its
                box alone, [4], (left, top, right, bottom), from edge to edge.
            image: As for `set_image`; None: the current one.

        Returns:
            The mask, bool [height, width], without a pixel where nothing exceeds the
            threshold; and the mean probability of its pixels, 0 to 1.

        Raises:
            NoImageSet: If there is no image.
            ClickError: If these clicks describe no object of the image; says why.
        """
        (found,) = self.predict_many([clicks], image=image)
        return found.mask, found.score

    def predict_many(
        self, clicks: Sequence[Any], *, image: Image | None = None
    ) -> list[Prediction]:
        """The masks of several objects of one image, with what is known of each.

        Args:
            clicks: Of each object, as for `predict`; [n, 4, 2] or a list.
            image: As for `set_image`; None: the current one.

        Raises:
            NoImageSet: If there is no image.
            ClickError: If the clicks of an object make no sense; nothing is predicted.
        """
        pixels = self._image if image is None else as_pixels(image)
        if pixels is None:
            raise NoImageSet
        height, width = pixels.shape[:2]
        items = [
            annotation(given, (height, width), number=number)
            for number, given in enumerate(clicks)
        ]
        found: list[Prediction] = []
        before = None
        for start in range(0, len(items), self._batch):
            chunk = items[start : start + self._batch]
            samples = [self._sample(pixels, item) for item in chunk]
            started = chunk, samples, self._predict(self._rows(samples))
            if before is not None:  # while the device works on the next
                found += self._finished(*before)
            before = started
        return found + (self._finished(*before) if before is not None else [])

    def predict_images(
        self, images: Iterable[tuple[Image, Sequence[Any]]]
    ) -> Iterator[list[Prediction]]:
        """Masks for a stream of images; each is read while the one before is worked on.

        Args:
            images: Pairs of an image and the clicks of its objects.

        Yields:
            What `predict_many` gives, in the same order.

        Raises:
            Exception: Of `set_image` and `predict_many`, when their image is reached.
        """
        with ThreadPoolExecutor(1) as pool:
            before = None
            for image, clicks in images:
                reading = pool.submit(as_pixels, image)
                if before is not None:
                    yield self.predict_many(before[1], image=before[0].result())
                before = reading, clicks
            if before is not None:
                yield self.predict_many(before[1], image=before[0].result())

    def _sample(self, pixels: np.ndarray, item: Instance) -> Batch:
        crop = self._config.crop
        margins = test_margins(crop.test_margin)
        points = item.extreme_points
        return crop_sample(pixels, item.box, points, margins, size=crop.size)

    def _rows(self, samples: list[Batch]) -> Batch:
        """One batch; the last sample fills it up."""
        filled = samples + samples[-1:] * (self._batch - len(samples))
        return stack(filled, ROWS)

    def _finished(
        self, items: list[Instance], samples: list[Batch], logits: jax.Array
    ) -> list[Prediction]:
        threshold = self._config.generate.threshold
        return [
            Prediction.of_crop(
                of_crop, Window(*sample["window"].tolist()), item, threshold
            )
            for item, sample, of_crop in zip(items, samples, local_rows(logits))
        ]


def as_pixels(image: Any) -> np.ndarray:
    """The pixels of a file, or an array that is known to be RGB, uint8 [h, w, 3].

    Raises:
        FileNotFoundError: If there is no such file.
        ImageError: If it is no whole image, or an array of another kind.
    """
    if isinstance(image, str | Path):
        return read_image(image)
    expected = "expected a path, or uint8 [height, width, 3] RGB"
    if not isinstance(image, np.ndarray):
        raise ImageError(f"The image is a {type(image).__name__}; {expected}.")
    said = f"The image is {image.dtype} {list(image.shape)}; {expected}"
    if image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1):
        raise ImageError(f"{said}: repeat the grey values three times.")
    if image.ndim == 3 and image.shape[2] == 4:
        raise ImageError(f"{said}: drop the fourth channel, image[..., :3].")
    if image.dtype != np.uint8:
        raise ImageError(f"{said}: values from 0 to 255.")
    if image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ImageError(f"{said}.")
    return image


def _expect(holds: bool, message: str) -> None:
    if not holds:
        raise WeightsError(f"{message}.")
