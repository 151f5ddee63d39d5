"""The routes answer the page of the person with the token, and nobody else."""

import asyncio
import io
import os
import random
import threading

import msgspec
import numpy as np
import pytest
from PIL import Image

from exits_jax.annotate.app import MAX_BODY
from exits_jax.data.images import read_image
from exits_jax.data.rle import decode
from tests.annotate.conftest import Served
from tests.support.annotating import CLIENT, FOUR, clicked, events_of
from tests.support.memory import grows_below

ASKED = {"place": 0, "object": "o1", "clicks": FOUR}


def batch(events, client=CLIENT):
    return {"client": client, "events": msgspec.to_builtins(events)}


def test_four_clicks_give_a_mask(served):
    answer = served.post("predict", ASKED)
    assert answer.status_code == 200
    mask = decode(answer.json()["rle"])
    assert mask.shape == (30, 40) and mask[14, 16] and not mask[2, 3]
    assert answer.json()["quality"]["click_hit"] == [1, 1, 1, 1]


def test_another_threshold_asks_no_model(served, drawn):
    before = decode(served.post("predict", ASKED).json()["rle"]).sum()
    calls = len(drawn.calls)
    after = decode(served.post("predict", {**ASKED, "threshold": 0.9}).json()["rle"])
    assert after.sum() < before and len(drawn.calls) == calls


def test_a_click_beside_a_mask_gives_the_part_it_means(served):
    part = decode(served.post("predict", {**ASKED, "grow": [28, 14]}).json()["rle"])
    assert part[14, 28]


def test_clicks_without_width_are_refused_with_their_code(served):
    flat = [(5, 5), (5, 9), (5, 20), (5, 7)]
    answer = served.post("predict", {**ASKED, "clicks": flat})
    assert answer.status_code == 422 and answer.json()["code"] == "E201"


def test_a_newer_request_of_an_object_replaces_the_one_that_waits(served, drawn):
    begun, go_on = threading.Event(), threading.Event()
    predict = drawn.predict_many

    def slowly(clicks, *, image):
        begun.set()
        go_on.wait(10)
        return predict(clicks, image=image)

    drawn.predict_many = slowly
    codes = {}

    def ask(name, key, clicks):
        body = {**ASKED, "object": key, "clicks": clicks}
        codes[name] = served.post("predict", body).status_code

    moved = [(11.0, 3.0), *FOUR[1:]]
    threads = [threading.Thread(target=ask, args=("busy", "o9", FOUR))]
    threads[0].start()
    assert begun.wait(10)
    for name, clicks in (("older", FOUR), ("newer", moved)):
        threads.append(threading.Thread(target=ask, args=(name, "o1", clicks)))
        threads[-1].start()
        while name == "older" and served.engine.state["waiting"] < 1:
            pass
    while "older" not in codes:
        pass
    go_on.set()
    for thread in threads:
        thread.join()
    assert codes == {"busy": 200, "older": 409, "newer": 200}


def test_events_are_answered_once_they_are_taken(served):
    answer = served.post("events", batch(events_of(*clicked())))
    assert answer.json() == {"upto": 4}
    (thing,) = served.get("images/0").json()["objects"]
    assert thing["clicks"] == [list(point) for point in FOUR]


def test_a_class_is_added_by_the_tab_that_writes(served):
    body = {"client": CLIENT, "name": " bus "}
    assert served.post("classes", body).json() == {"id": 3, "name": "bus"}
    assert served.get("state").json()["categories"][-1]["name"] == "bus"
    for name, status in ((" ", 400), ("x" * 101, 400), ("a\nb", 400)):
        assert served.post("classes", {**body, "name": name}).status_code == status
    other = {"client": "ffff0000", "name": "tram"}
    assert served.post("classes", other).status_code == 409


def test_a_full_disk_is_said_and_nothing_is_taken(served, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(served.store.journal, "append", full)
    answer = served.post("events", batch(events_of(*clicked())))
    assert answer.status_code == 507 and "No space left" in answer.json()["error"]
    assert not served.store.things


def test_a_second_tab_writes_only_after_it_took_over(served):
    other = "ffff0000"
    assert served.post("writer", {"client": CLIENT}).json() == {"writes": True}
    assert served.post("writer", {"client": other}).json() == {"writes": False}
    events = events_of(*clicked())
    assert served.post("events", batch(events, other)).status_code == 409
    assert served.post("writer", {"client": other, "take": True}).json()["writes"]
    assert served.post("events", batch(events, other)).status_code == 200
    assert served.post("events", batch(events)).status_code == 409


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("rgb.jpg", "jpeg"),
        ("turned.jpg", "png"),
        ("cmyk.jpg", "png"),
        ("deep.png", "png"),
    ]
    + [("palette.png", "png"), ("alpha.png", "png"), ("some.bmp", "png")],
)
def test_the_page_gets_the_pixels_that_count(open_store, task, name, kind):
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (9, 7, 3), np.uint8)
    image, more = Image.fromarray(pixels), {}
    if name == "turned.jpg":
        exif = Image.Exif()
        exif[0x0112] = 6
        more["exif"] = exif
    if name.startswith("cmyk"):
        image = image.convert("CMYK")
    if name.startswith("deep"):
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 256 + 7)
    if name.startswith("palette"):
        image = image.convert("P")
    if name.startswith("alpha"):
        image.putalpha(100)
    image.save(task.folder / name, **more)
    store = open_store()
    served = Served(store, None).enter()
    place = [each.name for each in store.pictures].index(name)
    answer = served.get(f"images/{place}/pixels")
    served.pixels.close()
    assert answer.headers["content-type"] == f"image/{kind}"
    shown = np.array(Image.open(io.BytesIO(answer.content)).convert("RGB"))
    np.testing.assert_array_equal(shown, read_image(task.folder / name))
    assert not Image.open(io.BytesIO(answer.content)).getexif()


def test_unchanged_pixels_are_not_sent_again(served):
    tag = served.get("images/0/pixels").headers["etag"]
    again = served.client.get("/api/v1/images/0/pixels", headers={"if-none-match": tag})
    assert again.status_code == 304 and not again.content


# Attacks


def test_every_answer_has_the_headers_that_bind_the_page(served):
    for path in ("/", "/api/v1/state", "/nothing"):
        headers = served.client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert not [name for name in headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:8765", "127.0.0.1:80", ""]
)
def test_another_host_is_refused(served, host):
    assert served.client.get("/", headers={"host": host}).status_code == 400


def test_without_the_token_nothing_is_shown(served):
    served.client.cookies.clear()
    for path in ("/", "/static/main.js", "/api/v1/state", "/api/v1/images/0/pixels"):
        answer = served.client.get(path)
        assert answer.status_code == 403 and "token" in answer.text
    assert served.client.get("/", params={"token": "wrong"}).status_code == 403


@pytest.mark.parametrize("other", ['foo={"a":1}', "a b=3", 'foo="x', "=1"])
def test_cookies_of_other_programs_lock_no_one_out(served, other):
    served.client.get("/?token=a-token-of-the-tests")
    ours = "; ".join(f"{n}={v}" for n, v in served.client.cookies.items())
    served.client.cookies.clear()
    headers = {"cookie": f"{other}; {ours}"}
    assert served.client.get("/api/v1/state", headers=headers).status_code == 200


def test_the_cookie_is_for_this_site_and_no_script(served):
    cookie = served.client.get("/?token=a-token-of-the-tests").headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_a_post_of_another_page_is_refused(served, headers, status):
    answer = served.post("events", batch(events_of(*clicked())), **headers)
    assert answer.status_code == status and not served.store.things


def test_a_post_without_our_header_is_refused(served):
    del served.headers["x-exits-jax"]
    assert served.post("predict", ASKED).status_code == 403


@pytest.mark.parametrize(
    "path",
    ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py"]
    + ["/static/%2fetc%2fpasswd", "/static//etc/passwd", "/static/%00"]
    + ["/api/v1/images/../../etc/passwd", "/api/v1/images/-1/pixels"]
    + ["/api/v1/images/99999999999999999999/pixels", "/api/v1/images/1.5"],
)
def test_no_path_of_a_client_reaches_a_file(served, path):
    assert served.client.get(path).status_code == 404


def test_a_body_over_the_limit_is_refused(served):
    body = b'{"client": "' + b"0" * MAX_BODY + b'"}'
    assert served.post("events", body).status_code == 413


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[" * 100_000, b'{"place": NaN}', b"\xff\xfe", b"null"]
    + [b'{"place":0,"object":"o1","clicks":[[1e999,1],[1,1],[1,1],[1,1]]}']
    + [b'{"place":0,"object":"../o","clicks":[[1,1],[1,1],[1,1],[1,1]]}'],
)
def test_a_body_that_makes_no_sense_is_refused(served, body):
    assert served.post("predict", body).status_code == 400


def test_a_method_of_no_use_is_refused(served):
    for method in ("PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"):
        assert served.client.request(method, "/api/v1/state").status_code == 405


def test_1000_random_requests_break_nothing(served, caplog, task):
    rng = random.Random(5)
    below = sorted(os.listdir(task.out.parent)), sorted(os.listdir(task.folder))
    with grows_below(2**28):  # a server has 0.1 GiB without a model, 0.5 with one
        for _ in range(1000):
            get = rng.choice(("state", "review", "images", "images/0", "images/7", "x"))
            if rng.random() < 0.3:
                query = "".join(chr(rng.randrange(33, 126)) for _ in range(9))
                answer = served.client.get(f"/api/v1/{get}", params={"from": query})
            else:
                body = msgspec.json.encode(nonsense(rng))
                answer = served.post(
                    rng.choice(("predict", "events", "writer", "classes")), body
                )
            assert answer.status_code < 500, answer.text
    assert "failed" not in caplog.text
    now = sorted(os.listdir(task.out.parent)), sorted(os.listdir(task.folder))
    assert now == below


def nonsense(rng):
    """A body of the right shape with wrong values in it, or of a wrong shape."""
    value = lambda: rng.choice(
        [None, -1, 2**70, 1e308, "", "x" * rng.randrange(2000), [], {}, True, "s1"]
        + [0, 1, FOUR, [[0, 0]] * 4, {"size": [30, 40], "counts": "0"}, CLIENT, "o1"]
    )
    event = {"client": CLIENT, "n": value(), "do": "click", "image": value()}
    event |= {"object": value(), "set": {"clicks": value(), "rle": value()}}
    names = ("place", "object", "clicks", "threshold", "grow", "client", "take", "name")
    bodies = (
        {name: value() for name in names if rng.random() < 0.7},
        {**ASKED, rng.choice(("clicks", "place", "threshold", "grow")): value()},
        {"client": CLIENT, "events": [event] * rng.randrange(4)},
        value(),
    )
    return rng.choice(bodies)


def test_a_snapshot_that_fails_in_any_way_is_told_and_tried_again(
    served, monkeypatch, caplog
):
    turns = []

    def failing():
        turns.append(1)
        if len(turns) == 1:
            raise TypeError("a bug")

    async def at_once(seconds):
        if len(turns) == 1:
            seen.append(served.service._snapshot_fault)
        if len(turns) == 2:
            raise asyncio.CancelledError
        served.service._saved_at = -1e9

    seen = []
    monkeypatch.setattr(served.store, "snapshot", failing)
    monkeypatch.setattr(asyncio, "sleep", at_once)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(served.service._save_now_and_then())
    assert seen == ["clicks.json was not written: TypeError: a bug"]
    assert "was not written" in caplog.text and not served.service._snapshot_fault
