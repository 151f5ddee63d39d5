"""Which programs may ask for masks: they have no cookie and come from no page."""

import base64
import binascii
import hmac
from collections.abc import Callable, Collection
from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from exits_jax.annotate.addresses import parsed
from exits_jax.annotate.options import TOOLS
from exits_jax.annotate.speak import cvat, label_studio, x_anylabeling

_OF_PAGES = ("origin", "sec-fetch-site")  # what browsers add, and no program does


class Door(NamedTuple):
    """The paths of one protocol and how its program says that it may ask."""

    paths: Collection[str]
    token_of: Callable[[Headers], str] | None  # None: by its address alone
    addresses: Collection[str] = ()

    def leads_to(self, path: str) -> bool:
        """Whether a path is one of them, or below one."""
        return any(path == own or path.startswith(f"{own}/") for own in self.paths)

    def refusal(self, scope: Scope, headers: Headers, token: str) -> Response | None:
        """What to answer instead, if anything."""
        if any(name in headers for name in _OF_PAGES):
            return JSONResponse({"error": "It comes from a page."}, 403)
        if self.token_of is None:
            client = scope.get("client") or ("", 0)
            address, allowed = parsed(client[0]), map(parsed, self.addresses)
            if address is None or not (address.is_loopback or address in {*allowed}):
                said = f"--allow does not name {client[0]}."
                return JSONResponse({"error": said}, 403)
        else:
            given = self.token_of(headers).encode()
            if not hmac.compare_digest(given, token.encode()):
                error = {"error": "The token is missing, or another one."}
                return JSONResponse(error, 401)
        is_json = headers.get("content-type", "").lower() == "application/json"
        if scope["method"] == "POST" and not is_json:
            return JSONResponse({"error": "Expected application/json."}, 415)
        return None


def doors_of(names: Collection[str], addresses: Collection[str]) -> list[Door]:
    """One per protocol.

    Args:
        names: Some of `TOOLS`.
        addresses: From which CVAT may ask, beside this machine.
    """
    known = {
        "label_studio": Door((label_studio.PATH,), _password),
        "x_anylabeling": Door((x_anylabeling.PATH,), _token),
        "cvat": Door((cvat.FUNCTIONS, cvat.INVOCATIONS), None, addresses),
    }
    return [known[name] for name in TOOLS if name in names]


def _token(headers: Headers) -> str:
    return headers.get("token", "")


def _password(headers: Headers) -> str:
    """That of Basic Auth; the user may have any name."""
    kind, _, packed = headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return ""
    try:
        text = base64.b64decode(packed, validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
    return text.partition(":")[2]
