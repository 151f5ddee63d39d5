"""A training step of EXITS in plain PyTorch, to be compared with ours.

It is what the paper's equations say, in the words of PyTorch: modules of
`convert_weights/torch_generator.py` with fused attention, Sinkhorn on the matrix, the
power of T, `unfold` in the mean field, `torch.optim.AdamW`.
"""

from copy import deepcopy
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.plain_torch import torch_retrieval
from benchmarks.plain_torch.torch_mean_field import mean_field
from convert_weights.torch_generator import Decoder, Encoder

Arrays = dict[str, np.ndarray]


class Options(NamedTuple):
    """What of a configuration the step needs."""

    encoder: dict
    extractor: dict
    decoder: dict
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    layers: tuple[int, ...]
    num_rounds: int
    num_hops: int
    fg_threshold: float
    bg_threshold: float
    dropout_rate: float
    inward_margin_px: float
    mil_weight: float
    point_weight: float
    crf_weight: float
    crf_ramp_steps: int
    crf_rounds: int
    colour_scale: float
    peak_lr: float
    warmup_steps: int
    betas: tuple[float, float]
    weight_decay: float
    teacher_decay: float


class Generator(nn.Module):
    """Encoder and decoder, differentiable."""

    def __init__(self, encoder: dict, decoder: dict):
        super().__init__()
        self.encoder = Encoder(**encoder)
        self.decoder = Decoder(encoder["dim"], **decoder)

    def forward(self, image: Tensor, box_area: Tensor) -> Tensor:
        """[B, 3, S, S] -> probabilities [B, S/4, S/4]."""
        return self.decoder(self.encoder(image), box_area).sigmoid()


class Extractor(Encoder):
    """Encoder that returns the attention of layers in place of features."""

    def forward(self, x: Tensor, layers: tuple[int, ...]) -> Tensor:
        """[B, 3, S, S] -> mean over heads and layers (from 1), [B, P, P]."""
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = x + self._positions(round(x.shape[1] ** 0.5))
        batch, first = len(x), int(self.cls_token is not None)
        if self.cls_token is not None:
            token = self.cls_token + self.pos_embed[:, :1]
            x = torch.cat([token.expand(batch, -1, -1), x], dim=1)
        total = torch.zeros(batch, x.shape[1], x.shape[1])
        for number, block in enumerate(self.blocks[: max(layers)], start=1):
            if number not in layers:
                x = block(x)
                continue
            attention, value = _attention(block, x)
            total += attention.mean(dim=1)
            if number < max(layers):
                mixed = (attention @ value).transpose(1, 2).flatten(2)
                x = x + block.attn.proj(mixed)
                x = x + block.mlp["fc2"](F.gelu(block.mlp["fc1"](block.norm2(x))))
        return total[:, first:, first:] / len(layers)


def _attention(block: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """[B, T, D] -> attention of a block [B, heads, T, T], values [B, heads, T, d]."""
    qkv = block.attn.qkv(block.norm1(x)).unflatten(2, (3, block.attn.heads, -1))
    query, key, value = qkv.transpose(1, 3).unbind(2)
    scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
    return scores.softmax(dim=-1), value


class TorchStep:
    """Student, teacher, extractor and optimizer; a call is one step."""

    def __init__(self, options: Options, generator: Arrays, extractor: Arrays):
        """Takes over the parameters, under the names of `--to=torch-generator`."""
        self.options = options
        self.student = Generator(options.encoder, options.decoder)
        self.student.load_state_dict(_tensors(generator))
        self.teacher = deepcopy(self.student).requires_grad_(False)
        self.extractor = Extractor(**options.extractor).requires_grad_(False)
        self.extractor.load_state_dict(_tensors(extractor))
        self.optimizer = torch.optim.AdamW(
            self.student.parameters(),
            lr=options.peak_lr,
            betas=options.betas,
            weight_decay=options.weight_decay,
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: min(1.0, (step + 1) / options.warmup_steps)
        )
        self.step = 0

    def __call__(self, batch: dict[str, Tensor]) -> float:
        """One step; the loss before it."""
        target, known, is_empty = self.labels(batch, self.similarity(batch))
        probs = self.predict(batch)
        box = box_mask(batch, probs.shape[-1])
        point = point_loss(probs, target, known, is_empty, box, self.options.mil_weight)
        refined = self.refine(batch, (probs.detach() + self.teach(batch)) / 2, box)
        ramp = self.options.crf_ramp_steps
        ramp = min(1.0, self.step / ramp) if ramp else 1.0
        colour = ramp * self.options.crf_weight * dice_loss(probs, refined)
        loss = (self.options.point_weight * point + colour).mean()
        loss.backward()
        self.update()
        return loss.item()

    @torch.no_grad()
    def similarity(self, batch: dict[str, Tensor]) -> Tensor:
        """S: attention of the frozen encoder, averaged over heads and layers."""
        return self.extractor(self._pixels(batch["image"]), self.options.layers)

    @torch.no_grad()
    def labels(self, batch: dict[str, Tensor], similarity: Tensor):
        """Target, known points and which crops have none."""
        options, crop_size = self.options, batch["image"].shape[1]
        points = torch_retrieval.initial_points(
            batch,
            crop_size=crop_size,
            patch_size=options.extractor["patch_size"],
            inward_margin_px=options.inward_margin_px,
        )
        return torch_retrieval.supervision(
            similarity,
            points,
            num_rounds=options.num_rounds,
            num_hops=options.num_hops,
            fg_threshold=options.fg_threshold,
            bg_threshold=options.bg_threshold,
            dropout_rate=options.dropout_rate,
        )

    def predict(self, batch: dict[str, Tensor]) -> Tensor:
        """The student's mask of its own view."""
        return self.student(self._pixels(batch["student_image"]), batch["box_area"])

    @torch.no_grad()
    def teach(self, batch: dict[str, Tensor]) -> Tensor:
        """The teacher's mask of the clean view."""
        return self.teacher(self._pixels(batch["image"]), batch["box_area"])

    @torch.no_grad()
    def refine(self, batch: dict[str, Tensor], average: Tensor, box: Tensor) -> Tensor:
        """CRF(M^avg), by the colours of the student's view."""
        colours = F.interpolate(
            self._pixels(batch["student_image"]),
            size=average.shape[1:],
            mode="bilinear",
            align_corners=False,
        )
        return mean_field(
            colours,
            average,
            box,
            num_rounds=self.options.crf_rounds,
            colour_scale=self.options.colour_scale,
        )

    def update(self) -> None:
        """AdamW on the student, then the teacher follows."""
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        self.step += 1
        with torch.no_grad():
            pairs = zip(self.teacher.parameters(), self.student.parameters())
            for slow, fast in pairs:
                slow.lerp_(fast, 1 - self.options.teacher_decay)

    def _pixels(self, image: Tensor) -> Tensor:
        """uint8 [B, S, S, 3] -> normalised [B, 3, S, S]."""
        mean, std = torch.tensor(self.options.mean), torch.tensor(self.options.std)
        return ((image.float() / 255 - mean) / std).permute(0, 3, 1, 2)


def dice_loss(probs: Tensor, target: Tensor) -> Tensor:
    """Squares in the denominator, each sum with 1e-3."""
    axes = tuple(range(1, probs.ndim))
    overlap = (probs * target).sum(axes)
    size = (probs**2).sum(axes) + (target**2).sum(axes)
    return 1 - 2 * overlap / (size + 2e-3)


def mil_loss(probs: Tensor, box: Tensor) -> Tensor:
    """Eq. (1)."""
    return sum(dice_loss(probs.amax(axis), box.amax(axis)) for axis in (1, 2))


def point_loss(
    probs: Tensor,
    target: Tensor,
    known: Tensor,
    is_empty: Tensor,
    box: Tensor,
    mil_weight: float,
) -> Tensor:
    """Eq. (8)."""
    grid = F.interpolate(
        probs[:, None], size=target.shape[1:], mode="bilinear", align_corners=False
    )[:, 0]
    fallback = mil_weight * mil_loss(probs, box) * is_empty
    return dice_loss(grid * known, target) + fallback


def box_mask(batch: dict[str, Tensor], mask_size: int) -> Tensor:
    """Boxes drawn on the crop by pixel centres, then resized."""
    side = batch["image"].shape[1]
    centre = torch.arange(side) + 0.5
    x0, y0, x1, y1 = batch["box"].unbind(1)
    columns = (centre >= x0[:, None]) & (centre < x1[:, None])
    rows = (centre >= y0[:, None]) & (centre < y1[:, None])
    full = (rows[:, :, None] & columns[:, None]).float()
    size = (mask_size, mask_size)
    return F.interpolate(full[:, None], size, mode="bilinear", align_corners=False)[
        :, 0
    ]


def _tensors(arrays: Arrays) -> dict[str, Tensor]:
    return {name: torch.tensor(np.asarray(array)) for name, array in arrays.items()}
