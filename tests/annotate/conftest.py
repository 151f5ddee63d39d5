"""A folder of images, a store on it, and events as a page sends them."""

import threading
import time

import msgspec
import numpy as np
import pytest
from PIL import Image

from exits_jax.labeling.prediction import Prediction
from exits_jax.predict.clicks import annotation

for needed in ("starlette", "uvicorn"):
    pytest.importorskip(needed, reason="needs the 'annotate' extra")

import uvicorn  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402

from exits_jax.annotate.app import Service  # noqa: E402
from exits_jax.annotate.engine import Engine  # noqa: E402
from exits_jax.annotate.guard import Guard  # noqa: E402
from exits_jax.annotate.pixels import Pixels  # noqa: E402
from exits_jax.annotate.serve import Address, hosts_of, listen  # noqa: E402
from exits_jax.annotate.speak.doors import doors_of  # noqa: E402
from exits_jax.annotate.speak.tools import routes_of  # noqa: E402
from exits_jax.annotate.store import Store, Task  # noqa: E402

HOSTS = hosts_of("127.0.0.1")
TOKEN, PORT = "a-token-of-the-tests", 8765


@pytest.fixture
def folder(tmp_path):
    """Three images of 40 x 30 px."""
    made = tmp_path / "images"
    (made / "street").mkdir(parents=True)
    for name in ("a.png", "b.png", "street/c.png"):
        rng = np.random.default_rng(len(name))
        pixels = rng.integers(0, 256, (30, 40, 3), np.uint8)
        Image.fromarray(pixels).save(made / name)
    return made


@pytest.fixture
def task(folder, tmp_path):
    return Task(folder, tmp_path / "clicks.json", ("car", "person"))


@pytest.fixture
def open_store(task):
    """Opens stores, and closes those that a test leaves open."""
    opened = []

    def opening(another=task):
        opened.append(Store(another))
        return opened[-1]

    yield opening
    for store in opened:
        store._lock_file.close()


class Drawn:
    """A model of no parameters: the mask is the ellipse in the box of the clicks."""

    class model:
        name, method, threshold = "drawn", "none", 0.5

    def __init__(self):
        self.calls = []

    def warm_up(self):
        """There is nothing to compile."""

    def predict_many(self, clicks, *, image):
        self.calls.append(clicks)
        height, width = image.shape[:2]
        made = []
        for number, given in enumerate(clicks):
            item = annotation(given, (height, width), number=number)
            x0, y0, x1, y1 = map(int, item.box)
            ys, xs = np.mgrid[y0:y1, x0:x1] + 0.5
            radius = np.hypot(
                (xs - (x0 + x1) / 2) / ((x1 - x0) / 2),
                (ys - (y0 + y1) / 2) / ((y1 - y0) / 2),
            )
            logits = (8 * (1.05 - radius)).astype(np.float32)
            made.append(Prediction(logits, (x0, y0), item, self.model.threshold))
        return made


@pytest.fixture
def drawn():
    return Drawn()


class Served:
    """A guarded application and a client that knows the token."""

    def __init__(self, store, model, speak=(), allow=(), **facts):
        self.store = store
        names = [each.name for each in store.pictures]
        self.pixels = Pixels(store.task.folder, names)
        load = None if model is None else lambda: model
        self.engine = Engine(load, self.pixels)
        spoken = routes_of(speak, self.engine, store, PORT)
        self.service = Service(
            store, self.engine, self.pixels, spoken, **{"mode": "clicks", **facts}
        )
        doors = doors_of(speak, allow)
        self.app = Guard(
            self.service.app, token=TOKEN, port=PORT, hosts=HOSTS, doors=doors
        )
        self.client = self.from_("127.0.0.1")
        self.headers = {
            "origin": f"http://127.0.0.1:{PORT}",
            "x-exits-jax": "1",
            "content-type": "application/json",
        }

    def from_(self, address):
        """A client at an address."""
        url = f"http://127.0.0.1:{PORT}"
        return TestClient(self.app, url, client=(address, 50_000))

    def enter(self):
        assert self.client.get("/", params={"token": TOKEN}).status_code == 200
        while self.engine.state["state"] == "loading":
            time.sleep(0.01)
        return self

    def post(self, path, body, **headers):
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return self.client.post(
            f"/api/v1/{path}", content=content, headers={**self.headers, **headers}
        )

    def get(self, path):
        return self.client.get(f"/api/v1/{path}")


@pytest.fixture
def served(open_store, drawn):
    """The application with the model `drawn`; its client is inside."""
    made = Served(open_store(), drawn).enter()
    yield made
    made.engine.close()
    made.pixels.close()
    made.client.close()


@pytest.fixture
def spoken(open_store, drawn):
    """The same, spoken to by other tools; nobody is inside."""
    made = Served(open_store(), drawn, ("label_studio", "x_anylabeling", "cvat"))
    while made.engine.state["state"] == "loading":
        time.sleep(0.01)
    yield made
    made.engine.close()
    made.pixels.close()
    made.client.close()


class Live:
    """The application behind a real server in a thread, stopped and started again."""

    def __init__(self, opened, model, **facts):
        self.opened, self.model, self.facts = opened, model, facts
        self.port = 0
        self.start()

    def start(self):
        self.store = self.opened()
        names = [each.name for each in self.store.pictures]
        self.pixels = Pixels(self.store.task.folder, names)
        load = None if self.model is None else lambda: self.model
        self.engine = Engine(load, self.pixels)
        commands = {"train": "exits-jax run", "predict": "p", "export": "e"}
        facts = {"mode": "clicks", "out": "clicks.json", "commands": commands}
        service = Service(self.store, self.engine, self.pixels, **facts | self.facts)
        self.socket = listen(Address(port=self.port))
        self.port = self.socket.getsockname()[1]
        app = Guard(service.app, token=TOKEN, port=self.port, hosts=HOSTS)
        config = uvicorn.Config(app, log_config=None, ws="none", lifespan="on")
        config.timeout_graceful_shutdown = 1
        self.server = uvicorn.Server(config)
        run = threading.Thread(target=self.server.run, args=([self.socket],))
        self.thread = run
        run.start()

    def stop(self):
        self.server.should_exit = True
        self.thread.join(20)
        self.engine.close()
        self.pixels.close()
        self.store.journal.close()
        self.store._lock_file.close()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/?token={TOKEN}"


@pytest.fixture
def live(open_store, drawn, request):
    """A server; `request.param`, if any, are facts and `model`, `task`."""
    given = dict(getattr(request, "param", {}))
    model = given.pop("model", drawn)
    made = Live(open_store, model, **given)
    yield made
    made.stop()
