"""The server: binds, says where it is, and ends in order."""

import contextlib
import logging
import secrets
import socket
import webbrowser
from collections.abc import Callable, Collection
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import msgspec
import uvicorn

from exits_jax.annotate.addresses import EVERY, LOOPBACK, in_url, reachable
from exits_jax.annotate.app import Service
from exits_jax.annotate.engine import Engine, Predicts
from exits_jax.annotate.guard import Guard
from exits_jax.annotate.pixels import Pixels
from exits_jax.annotate.speak.doors import doors_of
from exits_jax.annotate.speak.tools import routes_of, told
from exits_jax.annotate.store import Store

_logger = logging.getLogger(__name__)


class Address(NamedTuple):
    """Where to listen."""

    host: str = "127.0.0.1"
    port: int = 0  # any that is free
    token: str = ""  # a new one


def serve(
    store: Store,
    load: Callable[[], Predicts] | None,
    address: Address,
    *,
    is_opened: bool = False,
    speak: Collection[str] = (),
    allow: Collection[str] = (),
    **facts: Any,
) -> None:
    """Serves the page until it is stopped; then the last snapshot is written.

    Args:
        store: What is annotated.
        load: Gives the model; None: there is none.
        address: Where to listen.
        is_opened: Also opens the page in the user's browser.
        speak: Other tools that may ask for masks.
        allow: Addresses from which CVAT may ask.
        facts: What else the page is told.
    """
    listening, token = again(address, store.task.out)
    port = listening.getsockname()[1]
    pixels = Pixels(store.task.folder, [each.name for each in store.pictures])
    engine = Engine(load, pixels)
    spoken = routes_of(speak, engine, store, port)
    service = Service(store, engine, pixels, spoken, **facts)
    app = Guard(
        service.app,
        token=token,
        port=port,
        hosts=hosts_of(address.host),
        doors=doors_of(speak, allow),
    )
    for remark in store.remarks:
        _logger.warning("%s", remark)
    url = f"http://{reachable(address.host)}:{port}/?token={token}"
    print(f"{len(store.pictures)} images, {store.task.out}: {url}", flush=True)
    for line in told(speak, address.host, port, token):
        print(line, flush=True)
    if is_opened:
        webbrowser.open(url)
    try:
        _Server(app).run([listening])
    finally:
        engine.close()
        pixels.close()
        store.close()


def again(address: Address, out: Path) -> tuple[socket.socket, str]:
    """A bound socket and the token: those of the last start, where they are free.

    So a page that was open goes on where the server was stopped and started again.
    """
    path = out.with_name(f"{out.name}.address")
    last = Address()
    with contextlib.suppress(OSError, msgspec.DecodeError, msgspec.ValidationError):
        last = msgspec.json.decode(path.read_bytes(), type=Address)
    token = address.token or last.token or secrets.token_urlsafe(24)
    try:
        made = listen(address._replace(port=address.port or last.port))
    except (OSError, OverflowError):
        if address.port:
            raise
        made = listen(address)
    now = Address(address.host, made.getsockname()[1], token)
    with contextlib.suppress(OSError):  # a full disk: the next start has another
        path.touch(mode=0o600)
        path.write_bytes(msgspec.json.encode(now))
    return made, token


def listen(address: Address) -> socket.socket:
    """A socket that is bound.

    Raises:
        OSError: If the port is taken.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address.host, address.port))
    made.listen()  # who comes before the server runs waits
    return made


def hosts_of(host: str) -> Collection[str]:
    """The names that the server answers to."""
    names = {*map(in_url, LOOPBACK)}
    if host in EVERY:
        own = socket.gethostname()
        names.add(own.lower())
        with contextlib.suppress(OSError):  # a name that no one resolves
            found = socket.getaddrinfo(own, None, type=socket.SOCK_STREAM)
            names |= {str(entry[4][0]) for entry in found}
    else:
        names.add(in_url(host.lower()))
    return names


class _Server:
    """Uvicorn, quiet, whose orderly end after a signal is a success."""

    def __init__(self, app: Any):
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            timeout_graceful_shutdown=2,
            limit_concurrency=200,
        )
        self._server = uvicorn.Server(config)
        self._server.handle_exit = self._end

    def run(self, sockets: list[socket.socket]) -> None:
        self._server.run(sockets=sockets)

    def _end(self, sig: int, frame: FrameType | None) -> None:
        self._server.should_exit = True
