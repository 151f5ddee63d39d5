"""One picture that shows, object by object, how a pseudo mask came about."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from exits_jax.files.pictures import write_png

_FOREGROUND, _BACKGROUND = (226, 52, 63), (31, 158, 84)
_PREDICTED, _TRUE = (255, 122, 24), (38, 132, 255)
_WARM, _COLD = (196, 30, 48), (24, 92, 184)  # ends of the score's colours
_INK, _FAINT, _PAPER = (33, 37, 43), (112, 119, 130), (255, 255, 255)
_SHARP = 3  # tiles are drawn this much larger, then scaled down
_VOID = (243, 244, 246)  # around photographs that are no squares, and where none is
_MARGIN, _GAP, _BETWEEN, _LINE = 16, 4, 24, 22  # px
_SWATCH = 14  # px
_FLATTEST = 1 / 6  # shorter over longer side; thinner crops are drawn a little wider
_DASHES: dict[int, str] = dict.fromkeys(
    map(ord, "\u2010\u2011\u2012\u2013\u2014\u2212"), "-"
)

_HEADINGS = {
    "crop": "extreme points",
    "scores": "score",
    "pseudo": "pseudo points",
    "mask": "pseudo mask",
    "true": "true mask",
}


# Kind of tile, what its mark looks like, and what that means.
_LEGEND = (
    ("crop", "dot", _FOREGROUND, "extreme point"),
    ("scores", "scale", _WARM, "score: background to foreground"),
    ("pseudo", "dot", _FOREGROUND, "pseudo foreground"),
    ("pseudo", "dot", _BACKGROUND, "pseudo background"),
    ("mask", "outline", _PREDICTED, "pseudo mask"),
    ("true", "outline", _TRUE, "true mask"),
)


class Panel(NamedTuple):
    """What the sheet shows of one object; C = crop side in px, N = grid side."""

    crop: np.ndarray  # uint8 [C, C, 3]
    extreme_points: np.ndarray | None  # [4, 2], (x, y) px of the crop
    scores: np.ndarray | None  # float [N, N], pi_f - pi_b of Eq. (5)
    pseudo_fg: np.ndarray | None  # bool [N, N]
    pseudo_bg: np.ndarray | None  # bool [N, N]
    mask: np.ndarray  # bool [C, C]
    true_mask: np.ndarray | None  # bool [C, C]
    title: str
    extent: tuple[int, int] = (1, 1)  # width, height of what the crop shows


def draw_contact_sheet(
    panels: Sequence[Panel],
    *,
    heading: str = "",
    note: str = "",
    columns: int = 3,
    tile: int = 160,
) -> np.ndarray:
    """Draws a sheet with a legend and a titled strip of tiles per object.

    Crops are squares that the method sees stretched; here they have the proportions of
    the photograph.

    Args:
        panels: The objects, in reading order.
        heading: Title of the sheet.
        note: A line below it.
        columns: Objects side by side.
        tile: Side of a tile in pixels.

    Returns:
        uint8 [H, W, 3] RGB. A kind of tile that no object has anything for is left
        out of the sheet.

    Raises:
        ValueError: If there is no panel, no column or the tiles are too small.
    """
    if not panels:
        raise ValueError("A contact sheet needs at least one panel, got none.")
    if columns < 1 or tile < 16:
        raise ValueError(
            "A contact sheet needs at least one column and tiles of at least 16 px, "
            f"got columns={columns}, tile={tile}."
        )
    columns = min(columns, len(panels))
    drawn = [_tiles(panel, tile) for panel in panels]
    kinds = [kind for kind in _HEADINGS if any(kind in tiles for tiles in drawn)]
    strip = len(kinds) * (tile + _GAP) - _GAP
    rows = -(-len(panels) // columns)
    width = 2 * _MARGIN + columns * (strip + _BETWEEN) - _BETWEEN
    fonts = ImageFont.load_default(14), ImageFont.load_default(12)
    large = ImageFont.load_default(20)
    legend = _legend_rows(kinds, fonts[1], width - 2 * _MARGIN)
    lines = [
        (text, font) for text, font in ((heading, large), (note, fonts[0])) if text
    ]
    head = _MARGIN + (_LINE + 4) * len(lines) + _LINE * len(legend) + _GAP
    height = head + _MARGIN + _LINE + rows * (_LINE + tile + _GAP * 2) - _GAP * 2
    sheet = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for line, (text, font) in enumerate(lines):
        at, ink = (_MARGIN, _MARGIN + line * (_LINE + 4)), _FAINT if line else _INK
        pen.text(at, _fit(text, font, width - 2 * _MARGIN), ink, font)
    for row, entries in enumerate(legend):
        top = _MARGIN + (_LINE + 4) * len(lines) + _LINE * row
        for left, (_, mark, color, text) in entries:
            sheet.paste(_swatch(mark, color), (_MARGIN + left, top))
            at = _MARGIN + left + _SWATCH + 6, top + _SWATCH // 2
            pen.text(at, text, _INK, fonts[1], anchor="lm")
    for column in range(columns):
        left = _MARGIN + column * (strip + _BETWEEN)
        for place, kind in enumerate(kinds):
            x = left + place * (tile + _GAP)
            text = _fit(_HEADINGS[kind], fonts[1], tile)
            pen.text((x + tile // 2, head), text, _FAINT, fonts[1], anchor="ma")
    for index, (panel, tiles) in enumerate(zip(panels, drawn)):
        row, column = divmod(index, columns)
        left = _MARGIN + column * (strip + _BETWEEN)
        top = head + _LINE + row * (_LINE + tile + _GAP * 2)
        title = _fit(panel.title, fonts[0], strip)
        pen.text((left, top + _LINE - 6), title, _INK, fonts[0], anchor="ls")
        for place, kind in enumerate(kinds):
            at = left + place * (tile + _GAP), top + _LINE
            if kind in tiles:
                sheet.paste(tiles[kind], at, _rounded(tile))
            else:
                nothing = Image.new("RGB", (tile, tile), _VOID)
                sheet.paste(nothing, at, _rounded(tile))
                middle = at[0] + tile // 2, at[1] + tile // 2
                pen.text(middle, "none", _FAINT, fonts[1], anchor="mm")
    return np.asarray(sheet).copy()


def write_contact_sheet(
    path: str | Path, panels: Sequence[Panel], *, heading: str = "", note: str = ""
) -> None:
    """Draws a sheet and writes it as PNG in one atomic step.

    Args:
        path: The file; its folder is created when missing.
        panels: The objects, see `draw_contact_sheet`.
        heading: Title of the sheet.
        note: A line below it.
    """
    write_png(path, draw_contact_sheet(panels, heading=heading, note=note))


_Entry = tuple[str, str, tuple[int, int, int], str]


def _legend_rows(
    kinds: Sequence[str],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    width: int,
) -> list[list[tuple[int, _Entry]]]:
    """The entries of the kinds that are shown, each with its left, in full rows."""
    rows: list[list[tuple[int, _Entry]]] = [[]]
    left = 0
    for entry in _LEGEND:
        if entry[0] not in kinds:
            continue
        needed = _SWATCH + 6 + round(font.getlength(entry[3]))
        if rows[-1] and left + needed > width:
            rows.append([])
            left = 0
        rows[-1].append((left, entry))
        left += needed + _BETWEEN
    return rows


def _swatch(mark: str, color: tuple[int, int, int]) -> Image.Image:
    """What an entry of the legend looks like in the tiles."""
    side = _SWATCH * _SHARP
    image = Image.new("RGB", (side, side), _PAPER)
    pen = ImageDraw.Draw(image)
    if mark == "dot":
        _dot(pen, side / 2, side / 2, side / 2, color)
    elif mark == "outline":
        pen.rectangle((2, 2, side - 3, side - 3), outline=color, width=2 * _SHARP)
    else:
        steps = np.repeat(np.linspace(-1, 1, side)[None], side, axis=0)
        image = Image.fromarray(np.rint(_heat(steps)).astype(np.uint8))
    return image.resize((_SWATCH, _SWATCH), Image.Resampling.BOX)


def _tiles(panel: Panel, tile: int) -> dict[str, Image.Image]:
    """The tiles of one object by kind."""
    longer, shorter = max(panel.extent), min(panel.extent)
    thin = round(tile * _SHARP * max(shorter / longer, _FLATTEST))
    wide = panel.extent[0] == longer
    size = (tile * _SHARP, thin) if wide else (thin, tile * _SHARP)
    crop = _resize(panel.crop, size)
    large = {"crop": _with_clicks(crop, panel.extreme_points, panel.crop.shape[0])}
    if panel.scores is not None:
        large["scores"] = _with_scores(crop, panel.scores)
    if panel.pseudo_fg is not None or panel.pseudo_bg is not None:
        large["pseudo"] = _with_points(crop, panel.pseudo_fg, panel.pseudo_bg)
    large["mask"] = _with_mask(crop, panel.mask, _PREDICTED)
    if panel.true_mask is not None:
        large["true"] = _with_mask(crop, panel.true_mask, _TRUE)
    return {kind: _in_square(picture, tile) for kind, picture in large.items()}


def _in_square(picture: np.ndarray, tile: int) -> Image.Image:
    """A picture in the middle of a tile, scaled down to it."""
    height, width = picture.shape[:2]
    square = np.full((tile * _SHARP, tile * _SHARP, 3), _VOID, np.uint8)
    top, left = (square.shape[0] - height) // 2, (square.shape[1] - width) // 2
    square[top : top + height, left : left + width] = picture
    return Image.fromarray(
        cv2.resize(square, (tile, tile), interpolation=cv2.INTER_AREA)
    )


def _with_clicks(
    crop: np.ndarray, points: np.ndarray | None, crop_side: int
) -> np.ndarray:
    size = np.array(crop.shape[1::-1])
    image = Image.fromarray(crop)
    pen = ImageDraw.Draw(image)
    for point in [] if points is None else np.asarray(points, float):
        if np.isfinite(point).all():
            x, y = np.clip(point * size / crop_side, 0, size)
            _dot(pen, x, y, max(size.max() / 32, 4), _FOREGROUND)
    return np.asarray(image)


def _with_scores(crop: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Red where the walk from the clicks wins, blue where that from outside does."""
    scores = np.nan_to_num(np.asarray(scores, np.float32), posinf=0.0, neginf=0.0)
    size = np.abs(scores)
    scale = np.percentile(size[size > 0], 95) if (size > 0).any() else 1.0
    size = crop.shape[1], crop.shape[0]
    heat = _heat(np.clip(_resize(scores / scale, size, smooth=False), -1, 1))
    gray = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32)[..., None]
    return np.rint(heat * (0.62 + 0.38 * gray / 255)).astype(np.uint8)


def _heat(level: np.ndarray) -> np.ndarray:
    """Colours, float [h, w, 3], of scores from -1 to 1."""
    strength = np.sqrt(np.abs(level))[..., None]  # keeps weak scores visible
    end = np.where(level[..., None] > 0, np.array(_WARM), np.array(_COLD))
    return 255 + (end - 255) * strength


def _with_points(
    crop: np.ndarray, fg: np.ndarray | None, bg: np.ndarray | None
) -> np.ndarray:
    size = np.array(crop.shape[1::-1])
    image = Image.fromarray(_dimmed(crop))
    pen = ImageDraw.Draw(image)
    for cells, color in ((bg, _BACKGROUND), (fg, _FOREGROUND)):
        if cells is None:
            continue
        cell = size / cells.shape[0]
        for row, column in np.argwhere(cells):
            x, y = (np.array([column, row]) + 0.5) * cell
            _dot(pen, x, y, 0.36 * cell.min(), color)
    return np.asarray(image)


def _with_mask(
    crop: np.ndarray, mask: np.ndarray, color: tuple[int, int, int]
) -> np.ndarray:
    size = crop.shape[1], crop.shape[0]
    inside = _resize(mask.astype(np.float32), size) >= 0.5
    tinted = 0.86 * crop + 0.14 * np.array(color)
    image = np.where(inside[..., None], tinted, _dimmed(crop)).astype(np.uint8)
    outlines, _ = cv2.findContours(
        inside.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
    )
    thickness = max(max(size) // 80, 2)
    cv2.drawContours(image, outlines, -1, (255, 255, 255), thickness + 4, cv2.LINE_AA)
    return cv2.drawContours(image, outlines, -1, color, thickness, cv2.LINE_AA)


def _dot(
    pen: ImageDraw.ImageDraw,
    x: float | int,
    y: float | int,
    radius: float | int,
    color: tuple[int, int, int],
) -> None:
    box = x - radius, y - radius, x + radius, y + radius
    pen.ellipse(box, fill=color, outline=_PAPER, width=round(radius / 5))


def _dimmed(crop: np.ndarray) -> np.ndarray:
    """The crop, paler and with little colour, as a ground to draw on."""
    gray = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    muted = 0.35 * crop.astype(np.float32) + 0.65 * gray
    return (0.6 * muted + 0.4 * 255).astype(np.uint8)


def _resize(
    image: np.ndarray, size: tuple[int, int], smooth: bool = True
) -> np.ndarray:
    """The image at another width and height."""
    method = cv2.INTER_AREA if max(size) < max(image.shape[:2]) else cv2.INTER_LINEAR
    method = method if smooth else cv2.INTER_NEAREST
    return cv2.resize(image, size, interpolation=method)


def _rounded(tile: int) -> Image.Image:
    """Mask of a tile with rounded corners."""
    side = tile * _SHARP
    mask = Image.new("L", (side, side), 0)
    box = 0, 0, side - 1, side - 1
    ImageDraw.Draw(mask).rounded_rectangle(box, radius=side // 32, fill=255)
    return mask.resize((tile, tile), Image.Resampling.BOX)


def _fit(
    text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int
) -> str:
    """The text on one line, shortened with an ellipsis until it fits."""
    # Pillow's own font prints little beyond ASCII: accents go, dashes become plain,
    # what is left without a glyph becomes a question mark.
    plain = unicodedata.normalize("NFKD", text[:400]).translate(_DASHES)
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    plain = "".join(c if c.isprintable() else " " for c in plain)
    plain = plain.encode("ascii", "replace").decode("ascii")
    shortened = plain
    while plain and font.getlength(shortened) > width:
        plain = plain[:-1]
        shortened = plain.rstrip() + "..."
    return shortened if plain else ""
