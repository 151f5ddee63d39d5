import numpy as np
import pytest
from PIL import Image

from exits_jax.evaluation import contact_sheet
from exits_jax.evaluation.contact_sheet import Panel


def panel(**changes):
    """A gray crop with a square object in its middle."""
    mask = np.zeros((48, 48), bool)
    mask[12:36, 12:36] = True
    cells = np.zeros((6, 6), bool)
    cells[2:4, 2:4] = True
    made = Panel(
        crop=np.full((48, 48, 3), 128, np.uint8),
        extreme_points=np.array([[24, 12], [12, 24], [24, 36], [36, 24]], np.float32),
        scores=np.where(cells, 0.01, -0.01),
        pseudo_fg=cells,
        pseudo_bg=~cells,
        mask=mask,
        true_mask=mask,
        title="id 12 star  IoU 0.91",
    )
    return made._replace(**changes)


def tile_at(sheet, place, tile=160):
    left = 16 + place * (tile + 4)
    return sheet[-16 - tile : -16, left : left + tile].astype(int)


def is_red(pixels):
    return pixels[..., 0] - pixels[..., 1:].max(-1) > 60


def test_a_sheet_is_an_rgb_image_of_the_same_bytes_each_time():
    first = contact_sheet.draw_contact_sheet([panel()] * 4, columns=3)
    assert first.dtype == np.uint8 and first.ndim == 3 and first.shape[2] == 3
    again = contact_sheet.draw_contact_sheet([panel()] * 4, columns=3)
    np.testing.assert_array_equal(first, again)


def test_the_clicks_are_drawn_where_they_are():
    sheet = contact_sheet.draw_contact_sheet([panel()])
    red = is_red(tile_at(sheet, 0))
    for x, y in panel().extreme_points * (160 / 48):
        assert red[int(y), int(x)]
    assert not red[80, 80]


def test_the_score_is_red_where_foreground_wins_blue_elsewhere_and_white_at_zero():
    scores = panel().scores.copy()
    scores[0, 0] = 0
    tile = tile_at(contact_sheet.draw_contact_sheet([panel(scores=scores)]), 1)
    assert is_red(tile[80, 80])
    assert tile[80, 10, 2] - tile[80, 10, 0] > 60
    assert np.ptp(tile[13, 13]) == 0 and tile[13, 13, 0] > 190


def test_pseudo_points_are_dots_at_the_centres_of_their_cells():
    tile = tile_at(contact_sheet.draw_contact_sheet([panel()]), 2)
    centres = (np.arange(6) + 0.5) * 160 / 6
    values = tile[np.ix_(centres.astype(int), centres.astype(int))]
    np.testing.assert_array_equal(is_red(values), panel().pseudo_fg)
    green = values[..., 1] - values[..., [0, 2]].max(-1) > 60
    np.testing.assert_array_equal(green, panel().pseudo_bg)


def test_predicted_and_true_mask_are_shown_apart():
    predicted = np.zeros((48, 48), bool)
    sheet = contact_sheet.draw_contact_sheet([panel(mask=predicted)])
    assert np.ptp(tile_at(sheet, 3)[10:-10, 10:-10]) == 0
    assert np.ptp(tile_at(sheet, 4)[10:-10, 10:-10]) > 100


def test_kinds_of_tiles_that_no_object_has_are_left_out():
    bare = panel(scores=None, pseudo_fg=None, pseudo_bg=None, true_mask=None)
    full = contact_sheet.draw_contact_sheet([panel()])
    sheet = contact_sheet.draw_contact_sheet([bare])
    assert full.shape[1] - sheet.shape[1] == 3 * 164
    mixed = contact_sheet.draw_contact_sheet([panel(), bare], columns=1)
    assert mixed.shape[1] == full.shape[1]


@pytest.mark.parametrize(
    "title",
    ["", "chat noir é 猫 \U0001f408", "a\nb\t\0\ud800", "long " * 100_000, "猫" * 900],
)
def test_no_title_breaks_or_widens_the_sheet(title):
    plain = contact_sheet.draw_contact_sheet([panel()])
    sheet = contact_sheet.draw_contact_sheet([panel(title=title)])
    assert sheet.shape == plain.shape
    np.testing.assert_array_equal(sheet[:, -16:], plain[:, -16:])


@pytest.mark.parametrize(
    "changes",
    [
        {"scores": np.zeros((6, 6))},
        {"scores": np.full((6, 6), np.nan)},
        {"extreme_points": np.full((4, 2), np.nan)},
        {"extreme_points": np.array([[-50.0, 9], [999, 9], [0, 0], [48, 48]])},
        {"mask": np.ones((48, 48), bool)},
        {"pseudo_bg": None},
    ],
)
def test_unusual_panels_are_drawn(changes):
    sheet = contact_sheet.draw_contact_sheet([panel(**changes)])
    assert sheet.shape == contact_sheet.draw_contact_sheet([panel()]).shape


def test_the_file_holds_the_sheet(tmp_path):
    path = tmp_path / "new" / "sheet.png"
    contact_sheet.write_contact_sheet(path, [panel()])
    expected = contact_sheet.draw_contact_sheet([panel()])
    np.testing.assert_array_equal(np.asarray(Image.open(path)), expected)
    assert list(path.parent.iterdir()) == [path]


def test_refuses_a_sheet_without_panels():
    with pytest.raises(ValueError, match="at least one panel"):
        contact_sheet.draw_contact_sheet([])


@pytest.mark.parametrize("wrong", [{"columns": 0}, {"tile": 4}])
def test_refuses_a_layout_without_room(wrong):
    with pytest.raises(ValueError, match="at least one column"):
        contact_sheet.draw_contact_sheet([panel()], **wrong)


def is_void(pixels):
    return (pixels == (243, 244, 246)).all(-1)


@pytest.mark.parametrize(
    ("extent", "rows", "columns"),
    [((320, 160), (40, 120), (0, 160)), ((100, 400), (0, 160), (60, 100))],
)
def test_photographs_have_their_own_proportions(extent, rows, columns):
    sheet = contact_sheet.draw_contact_sheet([panel(extent=extent)])
    inside = ~is_void(tile_at(sheet, 0))[12:-12, 12:-12]  # without the round corners
    found = [np.flatnonzero(inside.any(axis)) + 12 for axis in (1, 0)]
    for places, (first, last) in zip(found, (rows, columns)):
        assert places[0] == max(first, 12) and places[-1] == min(last, 148) - 1


def test_clicks_stay_where_they_are_in_a_wide_photograph():
    tile = tile_at(contact_sheet.draw_contact_sheet([panel(extent=(2, 1))]), 0)
    for x, y in panel().extreme_points:
        assert is_red(tile[int(40 + y * 80 / 48), int(x * 160 / 48)])


def test_a_very_thin_photograph_can_still_be_seen():
    sheet = contact_sheet.draw_contact_sheet([panel(extent=(1, 1000))])
    middle = ~is_void(tile_at(sheet, 0))[80]
    assert 24 <= middle.sum() <= 32


def test_a_heading_and_a_note_come_above_everything_else():
    plain = contact_sheet.draw_contact_sheet([panel()])
    sheet = contact_sheet.draw_contact_sheet(
        [panel()], heading="run: EXITS on val", note="long " * 1000
    )
    assert sheet.shape[1] == plain.shape[1]
    head = sheet.shape[0] - plain.shape[0]
    assert head > 40 and (sheet[:head] < 128).any()
    np.testing.assert_array_equal(sheet[head + 20 :], plain[20:])


def legend_of(sheet):
    return sheet[16:56].astype(int)  # at most two rows; no tile begins there


def test_the_legend_has_every_colour_of_the_sheet_and_no_other():
    full = legend_of(contact_sheet.draw_contact_sheet([panel()]))
    bare = panel(scores=None, pseudo_fg=None, pseudo_bg=None, true_mask=None)
    short = legend_of(contact_sheet.draw_contact_sheet([bare]))
    colors = [(226, 52, 63), (31, 158, 84), (255, 122, 24), (38, 132, 255)]
    has = lambda legend, color: (abs(legend - color).max(-1) < 12).any()
    assert [has(full, color) for color in colors] == [True] * 4
    assert [has(short, color) for color in colors] == [True, False, True, False]


def test_a_narrow_sheet_has_a_legend_of_several_rows():
    tall = contact_sheet.draw_contact_sheet([panel()] * 3, columns=1, tile=60)
    wide = contact_sheet.draw_contact_sheet([panel()] * 3, columns=1, tile=160)
    strips = lambda tile: 3 * (22 + tile + 8) - 8
    assert tall.shape[0] - strips(60) > wide.shape[0] - strips(160)
