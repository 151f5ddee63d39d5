"""One picture of the oddest records of a data set: their clicks and boxes in place."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from exits_jax.evaluation.contact_sheet import (
    _FAINT,
    _FOREGROUND,
    _INK,
    _PAPER,
    _SHARP,
    _TRUE,
    _dot,
    _fit,
    _resize,
    _rounded,
)
from exits_jax.files.pictures import write_png

_FAULT, _REMARK, _PLAIN = (200, 36, 52), (176, 108, 10), (90, 98, 110)
_VOID, _STRIPE = (236, 238, 241), (222, 225, 230)  # what lies outside the image
_MARGIN, _GAP, _HEAD, _CAPTION = 20, 18, 60, 58  # px
_LETTERS = "TLBR"
_CONTEXT = 1.5  # a view has this times the extent of what it shows
_SMALLEST_PX = 24  # side of the smallest view, image px

Box = Sequence[float | int]  # four edges, xyxy


class OddRecord(NamedTuple):
    """A record as the sheet shows it; coordinates are px of the view."""

    view: np.ndarray  # uint8 [side, side, 3]
    points: np.ndarray | None  # [n, 2], (x, y), in the order of the file
    box: Box | None  # xyxy
    title: str
    code: str  # shown as a badge: E... red, W... amber, others grey
    note: str


def look_at(
    image: np.ndarray,
    points: np.ndarray | None,
    box: Box | None,
    *,
    side: int = 600,
) -> tuple[np.ndarray, np.ndarray | None, Box | None]:
    """Cuts out the surroundings of clicks and box, as a square of the true aspect.

    What lies farther off than half the image's extent is not followed; without finite
    coordinates the view is the whole image.

    Args:
        image: uint8 [h, w, 3].
        points: [n, 2], (x, y) image px, or None.
        box: xyxy image px, or None.
        side: Side of the view in px.

    Returns:
        The view, uint8 [side, side, 3], grey outside the image; points and box in its
        pixels.
    """
    height, width = image.shape[:2]
    corners = np.zeros((0, 2))
    if points is not None:
        corners = np.asarray(points, float) + 0.5
    if box is not None and np.isfinite(box).all():
        corners = np.concatenate([corners, np.reshape(box, (2, 2))])
    size = np.array([width, height], float)
    seen = corners[np.isfinite(corners).all(axis=1)]
    if not len(seen):
        seen = np.array([[0, 0], size / _CONTEXT])
        seen += (size - size / _CONTEXT) / 2
    seen = np.clip(seen, -0.5 * size, 1.5 * size)
    low, high = seen.min(axis=0), seen.max(axis=0)
    extent = max(float((high - low).max()) * _CONTEXT, float(_SMALLEST_PX))
    origin = (low + high - extent) / 2
    view = _cut(image, origin, extent, side)
    scale = side / extent
    if points is not None:
        points = (np.asarray(points, float) + 0.5 - origin) * scale
    if box is not None:
        edges = (np.reshape(box, (2, 2)) - origin) * scale
        x0, y0, x1, y1 = edges.ravel().tolist()
        box = (x0, y0, x1, y1)
    return view, points, box


def draw_problem_sheet(
    records: Sequence[OddRecord],
    *,
    heading: str,
    columns: int = 6,
    tile: int = 200,
) -> np.ndarray:
    """Draws a sheet with one captioned tile per record.

    Args:
        records: In reading order.
        heading: What the sheet is of.
        columns: Tiles side by side.
        tile: Side of a tile in pixels.

    Returns:
        uint8 [H, W, 3] RGB.

    Raises:
        ValueError: If there is no record, no column or the tiles are too small.
    """
    if not records or columns < 1 or tile < 16:
        raise ValueError(
            "A sheet needs at least one record, one column and tiles of at least 16 "
            f"px, got {len(records)} records, columns={columns}, tile={tile}."
        )
    fonts = {size: ImageFont.load_default(size) for size in (12, 14, 18)}
    legend_width = 380
    columns = min(columns, max(len(records), -(-legend_width // (tile + _GAP))))
    rows = -(-len(records) // columns)
    width = 2 * _MARGIN + columns * (tile + _GAP) - _GAP
    height = _MARGIN + _HEAD + rows * (tile + _CAPTION + _GAP) - _GAP + _MARGIN
    sheet = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    text = _shortened(heading, fonts[18], width - 2 * _MARGIN)
    pen.text((_MARGIN, _MARGIN), text, _INK, fonts[18])
    _draw_legend(pen, (_MARGIN, _MARGIN + 36), fonts[12])
    for index, record in enumerate(records):
        row, column = divmod(index, columns)
        x = _MARGIN + column * (tile + _GAP)
        y = _MARGIN + _HEAD + row * (tile + _CAPTION + _GAP)
        sheet.paste(_tile(record, tile), (x, y), _rounded(tile))
        _draw_caption(pen, record, (x, y + tile + 7), tile, fonts)
    return np.asarray(sheet).copy()


def write_problem_sheet(
    path: str | Path, records: Sequence[OddRecord], *, heading: str
) -> None:
    """Draws a sheet and writes it as PNG in one atomic step.

    Args:
        path: The file; its folder is created when missing.
        records: See `draw_problem_sheet`.
        heading: What the sheet is of.
    """
    write_png(path, draw_problem_sheet(records, heading=heading))


def _cut(image: np.ndarray, origin: np.ndarray, extent: float, side: int) -> np.ndarray:
    """A square of an image, of which only the needed pixels are touched."""
    height, width = image.shape[:2]
    x0, y0 = np.floor(origin).astype(int)
    x1, y1 = np.ceil(origin + extent).astype(int)
    # Large views are thinned first: one pixel in `step` still is denser than the view.
    step = max(1, math.floor(extent / (2 * side)))
    left, top = max(x0, 0), max(y0, 0)
    part = image[top : max(min(y1, height), top), left : max(min(x1, width), left)]
    part = np.ascontiguousarray(part[::step, ::step])
    view = _void(side)
    if not part.size:
        return view
    scale = side / extent
    corner = (np.array([left, top]) - origin) * scale
    move = np.array(
        [
            [scale * step, 0, corner[0] + (scale * step - 1) / 2],
            [0, scale * step, corner[1] + (scale * step - 1) / 2],
        ]
    )
    method = cv2.INTER_NEAREST if scale * step > 6 else cv2.INTER_LINEAR
    shown = cv2.warpAffine(part, move, (side, side), flags=method)
    ones = np.full(part.shape[:2], 255, np.uint8)
    inside = cv2.warpAffine(ones, move, (side, side), flags=cv2.INTER_NEAREST) > 0
    view[inside] = shown[inside]
    return view


def _void(side: int) -> np.ndarray:
    """Hatched grey, for what is not part of an image."""
    rows, columns = np.ogrid[:side, :side]
    period = max(side // 25, 4)
    stripes = (rows + columns) % period < period // 4
    return np.where(stripes[..., None], _STRIPE, _VOID).astype(np.uint8)


def _tile(record: OddRecord, tile: int) -> Image.Image:
    side = tile * _SHARP
    scale = side / record.view.shape[0]
    image = Image.fromarray(_resize(record.view, (side, side)))
    pen = ImageDraw.Draw(image)
    if record.box is not None and np.isfinite(record.box).all():
        x0, y0, x1, y1 = (np.clip(v * scale, -9, side + 9) for v in record.box)
        line = max(side // 120, 2)
        for grow, color in ((line // 2, _PAPER), (0, _TRUE)):
            edges = (x0 - grow, y0 - grow, max(x1, x0) + grow, max(y1, y0) + grow)
            pen.rectangle(edges, outline=color, width=line + 2 * grow)
    if record.points is not None:
        _draw_clicks(pen, np.asarray(record.points, float) * scale, side)
    small = cv2.resize(np.asarray(image), (tile, tile), interpolation=cv2.INTER_AREA)
    return Image.fromarray(small)


def _draw_clicks(pen: ImageDraw.ImageDraw, points: np.ndarray, side: int) -> None:
    """Dots with the letter of their side; hollow at the rim if they lie beyond it."""
    radius = side / 26
    font = ImageFont.load_default(radius * 1.5)
    for place, (x, y) in enumerate(points):
        if not (math.isfinite(x) and math.isfinite(y)):
            continue
        is_inside = 0 <= x <= side and 0 <= y <= side
        x = min(max(x, radius), side - radius) if not is_inside else x
        y = min(max(y, radius), side - radius) if not is_inside else y
        _dot(pen, x, y, radius, _FOREGROUND if is_inside else _PLAIN)
        letter = _LETTERS[place] if len(points) == len(_LETTERS) else str(place + 1)
        pen.text((x, y), letter, _PAPER, font, anchor="mm")


def _draw_caption(
    pen: ImageDraw.ImageDraw,
    record: OddRecord,
    at: tuple[int, int],
    width: int,
    fonts: dict[int, ImageFont.FreeTypeFont | ImageFont.ImageFont],
) -> None:
    x, y = at
    color = {"E": _FAULT, "W": _REMARK}.get(record.code[:1], _PLAIN)
    code = _shortened(record.code, fonts[12], width // 2)
    badge = pen.textlength(code, fonts[12]) + 12
    pen.rounded_rectangle((x, y, x + badge, y + 18), radius=5, fill=color)
    pen.text((x + badge / 2, y + 9), code, _PAPER, fonts[12], anchor="mm")
    title = _shortened(record.title, fonts[14], round(width - badge - 8))
    pen.text((x + badge + 8, y + 9), title, _INK, fonts[14], anchor="lm")
    for line, text in enumerate(_two_lines(record.note, fonts[12], width)):
        pen.text((x, y + 23 + 15 * line), text, _FAINT, fonts[12])


def _two_lines(
    text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int
) -> tuple[str, str]:
    """The text broken at a space; what is too long for two lines is shortened."""
    words = _decomposed(text).split()
    first = len(words)
    while first > 1 and font.getlength(" ".join(words[:first])) > width:
        first -= 1
    rest = " ".join(words[first:])
    return _fit(" ".join(words[:first]), font, width), _fit(rest, font, width)


def _shortened(
    text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int
) -> str:
    return _fit(_decomposed(text), font, width)


def _decomposed(text: str) -> str:
    """A bounded text: decomposed, a letter may become twenty, and each is measured."""
    return unicodedata.normalize("NFKD", text[:200])[:200]


def _draw_legend(
    pen: ImageDraw.ImageDraw,
    at: tuple[int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    x, y = at
    _dot(pen, x + 6, y, 6, _FOREGROUND)
    text = "click: Top Left Bottom Right"
    pen.text((x + 18, y), text, _FAINT, font, anchor="lm")
    x += 34 + round(pen.textlength(text, font))
    pen.rectangle((x, y - 6, x + 12, y + 6), outline=_TRUE, width=2)
    pen.text((x + 18, y), "bbox", _FAINT, font, anchor="lm")
    x += 34 + round(pen.textlength("bbox", font))
    pen.rectangle((x, y - 6, x + 12, y + 6), fill=_STRIPE)
    pen.text((x + 18, y), "outside the image", _FAINT, font, anchor="lm")
