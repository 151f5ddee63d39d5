"""Other tools get masks by their own protocols, and pages get nothing.

The requests of Label Studio 1.23.2 and X-AnyLabeling 4.2.1 are as their programs sent
them, but for names, ids, places and the image; those of CVAT are as its source reads.
"""

import base64
import copy
import importlib
import io
import json
import os
import random
import struct
import sys
import types
import zlib
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from PIL import Image
from starlette.datastructures import Headers

from exits_jax.annotate.speak.asking import MAX_BODY
from exits_jax.annotate.speak.prompts import four_of, without
from exits_jax.annotate.speak.tools import told
from tests.annotate.conftest import TOKEN, Served
from tests.exporters.test_label_studio import decode
from tests.support.annotating import FOUR
from tests.support.memory import grows_below

SUPPORT = Path(__file__).parents[1] / "support"
RECORDED = json.loads((SUPPORT / "recorded_requests.json").read_text())
BASIC = f"Basic {base64.b64encode(f'exits:{TOKEN}'.encode()).decode()}"
STUDIO, TOKENED = {"authorization": BASIC}, {"token": TOKEN}
FUNCTION = {"x-nuclio-function-name": "exits-jax"}
ROUTES = {
    "/label_studio/predict": ("label_studio", "four_clicks", STUDIO),
    "/x_anylabeling/v1/predict": ("x_anylabeling", "four_points", TOKENED),
    "/api/function_invocations": ("cvat", "four_points", FUNCTION),
}


def recorded(tool, name, **image):
    body = copy.deepcopy(RECORDED[tool][name])
    if "image" in body:
        body["image"] += base64.b64encode(drawing(**image)).decode()
    return body


def drawing(size=(40, 30)):
    packed = io.BytesIO()
    Image.new("RGB", size, (90, 120, 30)).save(packed, "PNG")
    return packed.getvalue()


def ask(spoken, path, body=None, **headers):
    _, _, own = ROUTES[path]
    return spoken.client.post(path, json=body, headers={**own, **headers})


@pytest.fixture
def truth(spoken):
    """The mask that the page would get for the same clicks."""
    image = np.zeros((30, 40, 3), np.uint8)
    (found,) = spoken.engine._load().predict_many([FOUR], image=image)
    return found.mask


# Label Studio


def studio(spoken, name):
    answer = ask(spoken, "/label_studio/predict", recorded("label_studio", name))
    assert answer.status_code == 200, answer.text
    return answer.json()["results"]


def test_a_project_of_label_studio_is_connected(spoken, caplog):
    health = spoken.client.get("/label_studio/health", headers=STUDIO)
    assert health.json()["status"] == "UP"
    setup = spoken.client.post(
        "/label_studio/setup", json=recorded("label_studio", "setup"), headers=STUDIO
    )
    assert setup.json() == {"model_version": "drawn"}
    assert caplog.text == ""  # nor is the token of the user told to anybody


def test_an_interface_without_a_brush_is_told_in_the_terminal(spoken, caplog):
    body = {"schema": "<View><Image name='image' value='$image'/></View>"}
    spoken.client.post("/label_studio/setup", json=body, headers=STUDIO)
    assert "no <BrushLabels>" in caplog.text


def test_four_keypoints_of_label_studio_give_the_mask_of_the_page(spoken, truth):
    (result,) = studio(spoken, "four_clicks")
    (region,) = result["result"]
    names = region["from_name"], region["to_name"], region["type"]
    assert names == ("mask", "image", "brushlabels")
    assert region["value"]["brushlabels"] == ["car"]
    np.testing.assert_array_equal(decode(region["value"]["rle"], 30, 40), truth)
    assert 0.5 < result["score"] == region["score"] < 1


@pytest.mark.parametrize("name", ["opened", "one_click", "three_clicks"])
def test_before_the_fourth_keypoint_there_is_no_region(spoken, drawn, name):
    (result,) = studio(spoken, name)
    assert result["result"] == [] and not drawn.calls


def test_a_keypoint_off_the_object_drops_the_part_that_it_is_in(spoken):
    body = recorded("label_studio", "four_clicks_and_one_off")
    answer = ask(spoken, "/label_studio/predict", body)
    assert answer.status_code == 422 and "E301" in answer.text  # the only part


def test_a_task_whose_image_is_not_in_the_folder_is_told_by_name(spoken, caplog):
    body = recorded("label_studio", "four_clicks")
    body["tasks"][0]["data"]["image"] = "/data/upload/1/ef2bd72b-elsewhere.png"
    answer = ask(spoken, "/label_studio/predict", body)
    assert answer.status_code == 422 and "elsewhere.png" in caplog.text


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../../clicks.json", "http://evil.example/x.png", "file:///c.jpg"],
)
def test_no_name_of_a_task_leads_elsewhere(spoken, name):
    body = recorded("label_studio", "four_clicks")
    body["tasks"][0]["data"]["image"] = name
    assert ask(spoken, "/label_studio/predict", body).status_code == 422


def test_clicks_on_an_image_that_is_shown_turned_are_refused(spoken, caplog):
    body = recorded("label_studio", "four_clicks")
    for region in body["params"]["context"]["result"]:
        region |= {"original_width": 30, "original_height": 40}
    answer = ask(spoken, "/label_studio/predict", body)
    assert answer.status_code == 422 and "stored with 40x30 px" in caplog.text


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_an_orientation_that_keeps_the_size_is_refused(spoken, task, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (40, 30)).save(task.folder / "street" / "c.png", exif=exif)
    answer = ask(
        spoken, "/label_studio/predict", recorded("label_studio", "four_clicks")
    )
    assert answer.status_code == 422 and "EXIF" in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/data/upload/4/ef2bd72b-0001.png",
        "/data/local-files/?d=x/0001.png",
        "s3://bucket/c/0001.png",
        "/data/upload/b/ef2bd72b-0001.png",
    ],
)
def test_a_path_whose_folders_say_nothing_leads_to_none_of_two(
    open_store, drawn, task, path
):
    add_images(task.folder, "0001.png", "b/0001.png")
    answer = asked_for(open_store(), drawn, {"image": path})
    assert answer.status_code == 422 and "'b/0001.png'" in answer.text


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("0001.png", "0001.png"),
        ("/data/local-files/?d=0001.png", "0001.png"),
        ("/data/local-files/?d=b/0001.png", "b/0001.png"),
        ("s3://bucket/c/b/0001.png", "b/0001.png"),
        ("/data/upload/4/ef2bd72b-c.png", "street/c.png"),
    ],
)
def test_a_path_whose_folders_tell_the_image_leads_to_it(
    open_store, drawn, task, path, name
):
    others = {"0001.png", "b/0001.png", "street/c.png"} - {name}
    add_images(task.folder, *others, size=(50, 30))  # refused if it were one of them
    add_images(task.folder, name)
    assert asked_for(open_store(), drawn, {"image": path}).status_code == 200


TWO = """<View><Image name="left" value="$before"/><Image name="right" value="$after"/>
<BrushLabels name="m1" toName="left"/><BrushLabels name="m2" toName="right"/>
<KeyPointLabels name="c1" toName="left"/><KeyPointLabels name="c2" toName="right"/>
</View>"""


def test_of_two_images_that_of_the_keypoints_is_read(open_store, drawn):
    data = {"image": "none.png", "before": "a.png", "after": "gone.png"}
    left = asked_for(open_store(), drawn, data, TWO, "left")
    (region,) = left.json()["results"][0]["result"]
    assert (region["from_name"], region["to_name"]) == ("m1", "left")


@pytest.mark.parametrize(
    ("data", "name", "said"),
    [
        ({"before": "a.png", "after": "gone.png"}, "right", "gone.png"),
        ({"before": "a.png"}, "right", "no text 'after'"),
        ({"before": "a.png"}, "image", "<BrushLabels>"),
    ],
)
def test_an_image_that_the_interface_does_not_give_is_told(
    open_store, drawn, data, name, said
):
    answer = asked_for(open_store(), drawn, data, TWO, name)
    assert answer.status_code == 422 and said in answer.json()["error"]


def asked_for(store, model, data, interface=None, name="image"):
    """The answer to four clicks on an image."""
    body = recorded("label_studio", "four_clicks")
    body["tasks"][0]["data"] = data
    body["label_config"] = interface or body["label_config"]
    for region in body["params"]["context"]["result"]:
        region["to_name"] = name
    served = Served(store, model, ("label_studio",)).enter()
    try:
        return ask(served, "/label_studio/predict", body)
    finally:
        served.engine.close()
        served.pixels.close()


def add_images(folder, *names, **image):
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(drawing(**image))


def test_training_is_not_feigned(spoken):
    body = recorded("label_studio", "webhook")
    told_of = spoken.client.post("/label_studio/webhook", json=body, headers=STUDIO)
    assert told_of.status_code == 200
    body["action"] = "START_TRAINING"
    training = spoken.client.post("/label_studio/webhook", json=body, headers=STUDIO)
    assert training.status_code == 501 and "exits-jax run" in training.text


# X-AnyLabeling


def test_x_anylabeling_is_told_of_one_model_and_its_buttons(spoken):
    answer = spoken.client.get("/x_anylabeling/v1/models", headers=TOKENED).json()
    (model,) = answer["data"].values()
    names = [widget["name"] for widget in model["widgets"]]
    assert "button_add_point" in names and model["batch_processing_mode"] is None


def test_four_points_of_x_anylabeling_give_a_closed_outline(spoken, drawn):
    body = recorded("x_anylabeling", "four_points")
    body["params"]["epsilon_factor"] = 0.0
    answer = ask(spoken, "/x_anylabeling/v1/predict", body)
    (shape,) = answer.json()["data"]["shapes"]
    assert (
        shape["label"] == "AUTOLABEL_OBJECT"
        and shape["points"][0] == (shape["points"][-1])
    )
    filled = np.zeros((30, 40), np.uint8)
    cv2.fillPoly(filled, [np.array(shape["points"]).astype(int)], 1)
    points = [tuple(map(float, mark["data"])) for mark in body["params"]["marks"]]
    image = np.zeros((30, 40, 3), np.uint8)
    (found,) = drawn.predict_many([points], image=image)
    np.testing.assert_array_equal(filled == 1, found.mask)


def test_three_points_of_x_anylabeling_give_no_shape_and_keep_the_description(spoken):
    body = recorded("x_anylabeling", "three_points")
    data = ask(spoken, "/x_anylabeling/v1/predict", body).json()["data"]
    assert data == {"shapes": [], "description": "", "replace": False}


def test_an_image_that_is_sent_again_is_not_decoded_again(spoken, monkeypatch):
    asking = importlib.import_module("exits_jax.annotate.speak.asking")
    decoded, decode_image = [], asking.decode_image
    monkeypatch.setattr(
        asking, "decode_image", lambda *a: decoded.append(1) or decode_image(*a)
    )
    body = recorded("x_anylabeling", "four_points")
    for _ in range(3):
        assert ask(spoken, "/x_anylabeling/v1/predict", body).json()["data"]["shapes"]
    assert len(decoded) == 1


@pytest.mark.parametrize(
    "image", ["", "no base 64 at all!", "aGVsbG8=", drawing()[:40].hex()]
)
def test_an_image_that_is_none_is_refused_in_a_sentence(spoken, image):
    body = {**RECORDED["x_anylabeling"]["four_points"], "image": image}
    answer = ask(spoken, "/x_anylabeling/v1/predict", body)
    assert answer.status_code == 422 and answer.json()["error"].endswith(".")


# CVAT


def test_cvat_finds_one_interactor_of_four_points(spoken):
    listed = spoken.client.get("/api/functions").json()
    ((name, function),) = listed.items()
    assert spoken.client.get(f"/api/functions/{name}").json() == function
    notes = function["metadata"]["annotations"]
    kinds = notes["type"], notes["version"], notes["min_pos_points"]
    assert kinds == ("interactor", "2", "4") and not notes["spec"]
    assert spoken.client.get("/api/functions/other").status_code == 404


def test_four_points_of_cvat_give_the_mask_within_its_bounds(spoken, truth):
    body = recorded("cvat", "four_points")
    answer = ask(spoken, "/api/function_invocations", body).json()
    left, top, right, bottom = answer["bounds"]
    mask = np.zeros((30, 40), bool)
    mask[top : bottom + 1, left : right + 1] = answer["mask"]
    np.testing.assert_array_equal(mask, truth)


def test_cvat_asks_from_this_machine_or_an_address_that_is_allowed(open_store, drawn):
    served = Served(open_store(), drawn, ("cvat",), ("172.17.0.2",))
    asking = {"127.0.0.1": 200, "172.17.0.2": 200, "10.0.0.9": 403, "": 403}
    asking |= {f"::ffff:{address}": asking[address] for address in list(asking)}
    for address, status in asking.items():
        got = served.from_(address).get("/api/functions")
        assert got.status_code == status
    served.engine.close()


class Shape(NamedTuple):
    type: str
    points: list
    attributes: list


class Prompts(NamedTuple):
    pos_points: list
    neg_points: list


def test_the_agent_of_cvat_gives_the_same_mask(drawn, truth, monkeypatch):
    # The three modules of its SDK, of which only names are used.
    kit = types.SimpleNamespace
    functions = kit(InteractionFunctionSpec=kit, InteractionResultShape=Shape)
    modules = {
        "cvat_sdk.auto_annotation": functions,
        "cvat_sdk.masks": kit(encode_mask=lambda mask: mask.tolist()),
        "cvat_sdk.models": kit(AttributeValRequest=kit),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    agent = importlib.import_module("exits_jax.annotate.cvat_agent").Agent(drawn)
    assert agent.spec.min_pos_points == 4
    pixels = agent.preprocess_image(None, Image.open(io.BytesIO(drawing())))
    points = [(x + 0.5, y + 0.5) for x, y in FOUR]
    (shape,) = agent.detect(None, pixels, Prompts(points, []))
    np.testing.assert_array_equal(shape.points, truth)
    assert shape.type == "mask" and 0 < float(shape.attributes[0].value) < 1
    assert agent.detect(None, pixels, Prompts(points, [(16.5, 14.5)])) == []


# Who may ask


@pytest.mark.parametrize("path", ROUTES)
def test_off_unless_it_is_named(served, path):
    tool, name, headers = ROUTES[path]
    bare = served.from_("127.0.0.1")
    assert bare.post(path, json=recorded(tool, name), headers=headers).status_code in (
        403,
        404,
    )
    inside = served.client.post(
        path, json=recorded(tool, name), headers={**served.headers, **headers}
    )
    assert inside.status_code == 404


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:8765"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"host": "evil.example"}, 400),
    ],
)
def test_a_page_gets_no_mask(spoken, drawn, path, headers, status):
    tool, name, _ = ROUTES[path]
    answer = ask(spoken, path, recorded(tool, name), **headers)
    assert answer.status_code == status and not drawn.calls


@pytest.mark.parametrize("path", list(ROUTES)[:2])
@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "", "token": ""},
        {"authorization": "Basic !", "token": "wrong"},
        {"authorization": f"Bearer {TOKEN}", "token": f"{TOKEN} "},
        {"authorization": "Basic ZXhpdHM6d3Jvbmc=", "token": "é"},
    ],
)
def test_without_the_token_a_tool_gets_no_mask(spoken, drawn, path, headers):
    tool, name, _ = ROUTES[path]
    sent = {key: value.encode() for key, value in headers.items()}
    answer = ask(spoken, path, recorded(tool, name), **sent)
    assert answer.status_code == 401 and not drawn.calls


def test_the_page_of_a_server_that_is_spoken_to_keeps_its_guard(spoken):
    for headers in ({}, STUDIO, TOKENED):
        assert spoken.client.get("/api/v1/state", headers=headers).status_code == 403
    spoken.enter()
    assert spoken.client.get("/label_studio/health").status_code == 401


@pytest.mark.parametrize("path", ROUTES)
def test_a_body_over_the_limit_of_a_tool_is_refused(spoken, path):
    body = b'{"image": "' + b"A" * MAX_BODY + b'"}'
    headers = {**ROUTES[path][2], "content-type": "application/json"}
    answer = spoken.client.post(path, content=body, headers=headers)
    assert answer.status_code == 413


def test_500_random_requests_of_tools_break_nothing(spoken, caplog, task):
    rng = random.Random(6)
    below = sorted(os.listdir(task.out.parent)), sorted(os.listdir(task.folder))
    bodies = [
        (path, recorded(tool, name, size=size))
        for path, (tool, name, _) in ROUTES.items()
        for size in ((40, 30), (3000, 2000))
    ]
    with grows_below(2**29):  # two images of 6 megapixels, as text and decoded
        for turn in range(500):
            path, body = rng.choice(bodies)
            answer = ask(spoken, path, spoilt(body, rng) if turn % 50 else body)
            assert answer.status_code < 500, answer.text
    assert "failed" not in caplog.text
    now = sorted(os.listdir(task.out.parent)), sorted(os.listdir(task.folder))
    assert now == below


def spoilt(body, rng):
    """A request with another value somewhere, or without one."""
    body = copy.deepcopy(body)
    at, place = body, rng.choice(list(body))
    while isinstance(at[place], dict | list) and at[place] and rng.random() < 0.8:
        at = at[place]
        place = rng.choice(list(at)) if isinstance(at, dict) else rng.randrange(len(at))
    if rng.random() < 0.2:
        del at[place]
    else:
        at[place] = rng.choice(
            [None, -1, 2**70, 1e308, "", "x" * 2000, [], {}, True, [[0, 0]] * 4, 0.5]
            + ["<View>" * 500, "data:;base64,AAAA", {"result": [{}]}, FOUR * 60]
        )
    return body


def test_an_image_that_unpacks_to_more_than_is_allowed_is_refused(spoken):
    raw = b"".join(
        len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)
        for kind, data in (
            (b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)),
            (b"IDAT", zlib.compress(bytes(10_000))),
            (b"IEND", b""),
        )
    )
    body = recorded("cvat", "four_points")
    body["image"] = base64.b64encode(b"\x89PNG\r\n\x1a\n" + raw).decode()
    with grows_below(2**26):
        answer = ask(spoken, "/api/function_invocations", body)
    assert answer.status_code == 422 and "pixels" in answer.json()["error"]


def test_a_person_is_told_what_to_enter_in_each_tool():
    lines = told(["x_anylabeling", "label_studio"], "::1", 80, "secret")
    assert len(lines) == 2
    assert all("secret" in line and "http://[::1]:80/" in line for line in lines)


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("127.0.0.1", "HOST=ADDRESS, for which --host=ADDRESS"),
        ("0.0.0.0", "HOST=ADDRESS, one of this machine"),
        ("::", "HOST=ADDRESS, one of this machine"),
        ("10.0.0.5", "HOST=10.0.0.5"),
    ],
)
def test_no_loopback_host_is_told_for_the_containers_of_cvat(host, said):
    (line,) = told(["cvat"], host, 80, "secret")
    assert said in line and "CVAT_NUCLIO_PORT=80" in line
    assert "127.0.0.1" not in line


def test_an_address_of_ipv4_on_a_socket_of_ipv6_is_our_own(spoken):
    headers = [
        (b"host", b"10.0.0.5:80"),
        *((k.encode(), v.encode()) for k, v in STUDIO.items()),
    ]
    scope = {"type": "http", "method": "GET", "path": "/label_studio/health"}
    scope |= {
        "headers": headers,
        "server": ("::ffff:10.0.0.5", 80),
        "query_string": b"",
    }
    refusal, _ = spoken.app._refusal(scope, Headers(scope=scope))
    assert refusal is None


# Points as clicks


def test_more_than_four_points_are_their_outermost():
    assert four_of([(8.0, 2.0), (12.0, 2.0), *FOUR])[0] == (10, 2)  # the middle one
    five = [*FOUR, (20.0, 28.0)]
    assert four_of(five) == [(10, 2), (3, 12.5), (20, 28), (30, 14)]
    assert four_of(FOUR) == FOUR and four_of(FOUR[:3]) is None


def test_a_point_off_the_object_drops_one_part_and_beside_it_none():
    part = np.zeros((6, 6), bool)
    part[0:2, 0:2] = part[4:6, 4:6] = True
    kept = without(part, (10, 20), [(10.4, 20.3)])
    assert kept.sum() == 4 and kept[5, 5]
    np.testing.assert_array_equal(
        without(part, (10, 20), [(0.0, 0.0), (13.0, 20.0)]), part
    )
