"""The page in a Chromium, by mouse and keys alone."""

import functools
import json
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from exits_jax.annotate.store import Task
from exits_jax.data.annotations import read_instances
from exits_jax.data.images import read_image
from exits_jax.data.rle import area, decode
from tests.annotate.conftest import Live

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((path for name in NAMES if (path := shutil.which(name))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed"),
]
expect = playwright.expect
FOUR = [(10, 2), (3, 12), (15, 25), (30, 14)]


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=BROWSER, headless=True, args=["--no-sandbox"]
        )
        yield browser
        browser.close()


class Page:
    """The page of a server, spoken to as a person does."""

    def __init__(self, context, url):
        self.page = context.new_page()
        self.errors = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self.listen)
        self.page.goto(url)
        self.ready()

    def listen(self, message):
        offline = "Failed to load resource" in message.text
        if message.type == "error" and not offline:
            self.errors.append(message.text)

    def ready(self):
        self.page.locator("body[data-ready]").wait_for(timeout=30_000)
        return self

    def spot(self, x, y):
        """Where a pixel of the image is on the screen."""
        where = """([x, y]) => import("/static/main.js").then(({app}) => {
            const {left, top} = document.getElementById("overlay")
                .getBoundingClientRect();
            const [px, py] = app.view.toScreen([x, y]);
            return [px + left, py + top];
        })"""
        return self.page.evaluate(where, [x, y])

    def click(self, *points, **more):
        for x, y in points:
            self.page.mouse.click(*self.spot(x, y), **more)

    def drag(self, *points):
        self.page.mouse.move(*self.spot(*points[0]))
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*self.spot(*point), steps=4)
        self.page.mouse.up()

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def says(self, text):
        expect(self.page.locator("#progress")).to_contain_text(text, timeout=15_000)

    def saved(self):
        pill = self.page.locator("#saved[data-state=saved]")
        pill.wait_for(timeout=20_000)

    def masks(self):
        self.says("accepts; drag a click")


@pytest.fixture
def enter(chromium):
    """Opens pages; none may have said an error."""
    contexts, pages = [], []

    def entering(url, size=(1280, 800)):
        width, height = size
        context = chromium.new_context(viewport={"width": width, "height": height})
        context.set_default_timeout(20_000)
        contexts.append(context)
        pages.append(Page(context, url))
        return pages[-1]

    yield entering
    for context in contexts:
        context.close()
    assert [page.errors for page in pages if page.errors] == []


def things(live):
    made = list(live.store.things.values())  # the server adds to them meanwhile
    return [each for each in made if each.status != "gone"]


def eventually(condition):
    """Waits until it holds; what is said of an object before it is there is no."""

    def holds():
        try:
            return condition()
        except (IndexError, TypeError):  # no object, or none with a mask
            return False

    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline, "It did not come."
        time.sleep(0.05)


def test_four_clicks_in_any_order_give_a_mask_that_others_read(live, enter):
    page = enter(live.url)
    page.click(FOUR[2], FOUR[0], FOUR[3], FOUR[1])
    page.masks()
    page.press("Enter")
    page.saved()
    live.store.snapshot()
    task = live.store.task
    read = read_instances(task.out, task.folder, on_bad="error")
    np.testing.assert_allclose(read.instances[0].extreme_points, FOUR, atol=0.05)
    (record,) = json.loads(task.out.read_text())["annotations"]
    assert decode(record["segmentation"])[14, 16]
    assert record["exits"]["by"] == "accepted" and record["exits"]["seconds"] > 0


def test_zoomed_and_panned_clicks_land_on_the_same_pixel(live, enter):
    page = enter(live.url)
    page.click((20, 14))
    page.page.mouse.move(*page.spot(20, 14))
    for _ in range(8):
        page.page.mouse.wheel(0, -240)
    page.page.keyboard.down("Space")
    page.page.mouse.down()
    page.page.mouse.move(400, 300, steps=3)
    page.page.mouse.up()
    page.page.keyboard.up("Space")
    page.press("Backspace")
    page.click((20, 14))
    page.saved()
    (thing,) = things(live)
    np.testing.assert_allclose(thing.clicks, [(20, 14)], atol=0.02)


def test_the_next_object_is_begun_while_a_mask_is_computed(live, drawn, enter):
    predict = drawn.predict_many

    def slowly(clicks, *, image):
        time.sleep(1.0)
        return predict(clicks, image=image)

    drawn.predict_many = slowly
    page = enter(live.url)
    page.click(*FOUR)
    page.says("Computing")
    page.click((33, 3), (32, 6))
    page.says("2 of 4 clicks")
    eventually(lambda: things(live)[0].rle is not None)
    assert things(live)[0].by == "model" and len(things(live)[1].clicks) == 2


def test_undo_and_redo_walk_through_clicks_and_masks(live, enter):
    page = enter(live.url)
    page.click(*FOUR)
    page.masks()
    page.click((20, 20), button="right")
    page.says("3 of 4 clicks")
    page.press("Control+z", "Control+z", "Control+z")
    eventually(lambda: not things(live))
    page.press(*["Control+Shift+z"] * 4)
    page.masks()
    eventually(lambda: len(things(live)[0].clicks) == 4 and things(live)[0].rle)


def test_a_dragged_click_makes_a_new_mask(live, enter):
    page = enter(live.url)
    page.click(*FOUR)
    page.masks()
    page.saved()
    before = area(as_rle(things(live)[0]))
    page.drag(FOUR[3], (37, 14))
    eventually(lambda: area(as_rle(things(live)[0]) or NONE) > before)


NONE = {"size": [1, 1], "counts": "1"}


def test_an_end_that_is_near_another_one_is_clicked_and_not_dragged(live, enter):
    page = enter(live.url)
    near = [(10, 2), (9.7, 2.3), (15, 25), (30, 14)]
    page.click(*near)
    page.masks()
    page.saved()
    np.testing.assert_allclose(things(live)[0].clicks, near, atol=0.05)


def as_rle(thing):
    if thing.rle is None:
        return None
    return {"size": list(thing.rle.size), "counts": thing.rle.counts}


def test_brush_eraser_parts_and_holes_change_the_mask(live, enter):
    page = enter(live.url)
    page.click(*FOUR)
    page.masks()
    page.press("e", *["["] * 8)  # small: two pixels
    page.drag((16, 3), (16, 25))
    page.saved()
    eventually(lambda: not decode(as_rle(things(live)[0]))[14, 16])
    page.press("x")
    page.click((6, 13))
    eventually(lambda: not decode(as_rle(things(live)[0]))[13, 6])
    page.press("b")
    page.drag((35, 3), (38, 3), (38, 7), (35, 7), (35, 3))
    page.press("h")
    eventually(lambda: decode(as_rle(things(live)[0]))[5, 36])
    assert things(live)[0].by == "edited"
    page.press("Control+z")
    page.says("Edited")


def test_the_threshold_of_an_object_changes_its_mask(live, enter):
    page = enter(live.url)
    page.click(*FOUR)
    page.masks()
    page.saved()
    before = area(as_rle(things(live)[0]))
    page.press(*["."] * 15)
    eventually(lambda: area(as_rle(things(live)[0])) < before)
    assert things(live)[0].threshold == pytest.approx(0.8)


def test_the_keyboard_alone_makes_an_object_of_a_class(live, enter):
    page = enter(live.url)
    page.press("2", "k")  # the pointer begins in the middle, at (20, 15)
    page.press(*["Shift+ArrowUp"], "Enter")
    page.press(*["Shift+ArrowDown"] * 2, "Enter")
    page.press(*["Shift+ArrowUp", "Shift+ArrowLeft"], "Enter")
    page.press(*["Shift+ArrowRight"] * 2, "Enter")
    page.masks()
    page.press("Enter")
    page.says("Click the top")
    page.press("Tab")
    page.says("Accepted")
    page.saved()
    (thing,) = things(live)
    assert thing.clicks == [(20, 5), (20, 25), (10, 15), (30, 15)]
    assert thing.category == 2 and thing.by == "accepted"


def test_a_class_that_was_not_named_at_the_start_is_added_and_kept(live, enter):
    page = enter(live.url)
    page.press("c")
    page.page.keyboard.type("bus")
    page.press("Enter")
    page.says("Enter adds it")
    page.press("Shift+Enter")
    page.says("bus is a class now")
    page.click(*FOUR)
    page.masks()
    page.saved()
    live.stop()
    live.start()
    assert [each["name"] for each in live.store.categories] == ["car", "person", "bus"]
    assert things(live)[0].category == 3


def test_the_last_click_is_nudged_by_the_arrows(live, enter):
    page = enter(live.url)
    page.click((20, 14))
    page.press("ArrowRight", "ArrowRight", "Shift+ArrowUp")
    eventually(lambda: np.allclose(things(live)[0].clicks, [(22, 4)], atol=0.05))


def test_a_second_tab_looks_on_until_it_takes_over(live, enter):
    one = enter(live.url)
    two = enter(live.url)
    expect(two.page.locator("#saved")).to_have_text("read-only")
    two.click(*FOUR)
    two.says("Another tab writes")
    two.page.locator("#take").click()
    two.saved()
    two.click(*FOUR)
    two.masks()
    expect(one.page.locator("#saved")).to_contain_text("read-only", timeout=15_000)
    assert len(things(live)) == 1


def test_clicks_survive_a_server_that_is_stopped_and_started_again(live, enter):
    page = enter(live.url)
    page.click(*FOUR[:2])
    page.saved()
    live.stop()
    page.click(FOUR[2])
    page.says("The server has stopped. 1 event is kept in this tab")
    page.click(FOUR[3])
    live.start()
    page.saved()
    eventually(lambda: things(live) and things(live)[0].rle is not None)
    np.testing.assert_allclose(things(live)[0].clicks, FOUR, atol=0.05)


def test_unconfirmed_clicks_survive_that_the_page_is_loaded_again(live, enter):
    page = enter(live.url)
    page.page.route("**/api/v1/events", lambda route: route.abort())
    page.click(*FOUR[:3])
    page.says("events are kept in this tab")
    page.page.unroute("**/api/v1/events")
    page.page.route("**/api/v1/events", lambda route: route.continue_())
    assert not live.store.things
    page.page.reload()
    page.ready()
    eventually(lambda: things(live) and len(things(live)[0].clicks) == 3)


@pytest.mark.parametrize("live", [{"mode": "points", "model": None}], indirect=True)
def test_points_mode_goes_on_by_itself_and_tells_the_time(live, enter):
    page = enter(live.url)
    page.click(*FOUR)
    page.says("s on average")
    page.click(*[(x + 5, y + 3) for x, y in FOUR])
    page.saved()
    assert [len(each.clicks) for each in things(live)] == [4, 4]
    assert all(each.seconds > 0 and each.rle is None for each in things(live))


def test_clicks_without_width_are_told_and_not_taken(live, enter):
    page = enter(live.url)
    page.click((9, 2), (9, 9), (9, 20), (9, 12))
    page.says("The clicks have no width")
    page.saved()
    assert len(things(live)[0].clicks) == 3


def test_images_are_turned_by_key_and_the_end_tells_the_command(live, enter):
    page = enter(live.url)
    page.press("d", "d")
    expect(page.page.locator("#where")).to_contain_text("3/3 street/c.png")
    page.press("d")
    expect(page.page.locator("#commands")).to_contain_text("exits-jax run")


KINDS = ("turned.jpg", "deep.png", "palette.png", "cmyk.jpg")


@pytest.mark.parametrize("name", KINDS)
def test_the_page_shows_the_pixels_that_count(folder, tmp_path, drawn, enter, name):
    from exits_jax.annotate.store import Store

    shutil.rmtree(folder)
    folder.mkdir()
    pixels = np.zeros((30, 40, 3), np.uint8)
    pixels[:15, :20], pixels[15:, 20:] = (200, 30, 60), (30, 90, 210)
    image, more = Image.fromarray(pixels), {}
    if name == "turned.jpg":
        exif = Image.Exif()
        exif[0x0112] = 6
        more["exif"] = exif
    if name == "cmyk.jpg":
        image = image.convert("CMYK")
    if name == "deep.png":
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 256)
    if name == "palette.png":
        image = image.convert("P")
    image.save(folder / name, **more)
    task = Task(folder, tmp_path / "clicks.json")
    live = Live(functools.partial(Store, task), drawn)
    try:
        page = enter(live.url)
        shown = page.page.evaluate(
            """() => import("/static/main.js").then(({app}) => {
                const {bitmap} = app.view.picture;
                const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
                const context = canvas.getContext("2d");
                context.drawImage(bitmap, 0, 0);
                const {data} = context.getImageData(0, 0, bitmap.width, bitmap.height);
                return [bitmap.height, bitmap.width, [...data]];
            })"""
        )
        height, width, values = shown
        found = np.array(values).reshape(height, width, 4)[..., :3]
        np.testing.assert_allclose(found, read_image(folder / name), atol=2)
    finally:
        live.stop()


def test_a_review_goes_from_doubtful_to_sure_and_marks_only_what_was_seen(
    live, folder, tmp_path, drawn, enter
):
    from exits_jax.annotate.store import Store

    page = enter(live.url)
    for shift in (0, 3, 6):
        page.click(*[(x + shift, y + shift / 2) for x, y in FOUR])
        page.masks()
    page.saved()
    page.page.close()
    live.store.snapshot()
    source = json.loads(live.store.task.out.read_text())
    for record, score in zip(source["annotations"], (0.9, 0.2, 0.5)):
        record["exits"] = {**record["exits"], "score": score, "by": "model"}
    masks = tmp_path / "masks.json"
    masks.write_text(json.dumps(source))
    task = Task(folder, tmp_path / "reviewed.json", review=masks)
    review = Live(functools.partial(Store, task), drawn, mode="review")
    try:
        page = enter(review.url)
        page.says("Score 0.20")
        page.press("y")
        page.says("Score 0.50")
        page.press("n")
        page.says("Score 0.90")
        page.saved()
        review.store.snapshot()
    finally:
        review.stop()
    made = json.loads(task.out.read_text())["annotations"]
    assert [each["exits"]["by"] for each in made] == ["model", "accepted"]
    assert json.loads(masks.read_text()) == source
