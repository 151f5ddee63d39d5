"""The tools that are spoken to: their routes, and what a person has to enter there."""

from collections.abc import Collection

from starlette.routing import BaseRoute

from exits_jax.annotate.addresses import EVERY, LOOPBACK, in_url, reachable
from exits_jax.annotate.engine import Engine
from exits_jax.annotate.speak.asking import Asking
from exits_jax.annotate.speak.cvat import Cvat
from exits_jax.annotate.speak.label_studio import LabelStudio
from exits_jax.annotate.speak.x_anylabeling import XAnyLabeling
from exits_jax.annotate.store import Store


def routes_of(
    names: Collection[str], engine: Engine, store: Store, port: int
) -> list[BaseRoute]:
    """Routes of the tools that are named.

    Args:
        names: Some of `TOOLS`.
        engine: Makes the masks.
        store: Has the images that Label Studio speaks of.
        port: Of this server.
    """
    asking = Asking(engine)
    known = {
        "label_studio": lambda: LabelStudio(asking, store).routes(),
        "x_anylabeling": lambda: XAnyLabeling(asking).routes(),
        "cvat": lambda: Cvat(asking, port).routes(),
    }
    return [route for name, made in known.items() if name in names for route in made()]


def told(names: Collection[str], host: str, port: int, token: str) -> list[str]:
    """What to enter in each tool, a line each.

    Args:
        names: Some of `TOOLS`.
        host: What this server listens on.
        port: Of this server.
        token: Of this server.
    """
    place = f"{reachable(host)}:{port}"
    cvat = f"CVAT (untried): CVAT_SERVERLESS=1 CVAT_NUCLIO_PORT={port} "
    cvat += "CVAT_NUCLIO_INVOKE_METHOD=dashboard CVAT_NUCLIO_HOST="
    if host in LOOPBACK:
        cvat += "ADDRESS, for which --host=ADDRESS --token=... --allow=... are needed"
    elif host in EVERY:
        cvat += "ADDRESS, one of this machine that CVAT's containers reach"
    else:
        cvat += in_url(host)
    known = {
        "label_studio": f"Label Studio: http://{place}/label_studio, Basic "
        f"Authentication, user exits, password {token}",
        "x_anylabeling": f"X-AnyLabeling: server URL http://{place}/x_anylabeling, "
        f"API key {token}",
        "cvat": cvat,
    }
    return [line for name, line in known.items() if name in names]
