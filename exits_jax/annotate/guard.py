"""Who may speak to the server: the person who was given the token, from its own page.

A server on 127.0.0.1 can be reached by every page that the user visits. So the host
must be ours (no DNS rebinding), the caller must have the token, and what changes
something must be JSON that comes from our own page. Other tools have own doors.
"""

import hmac
from collections.abc import Collection
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exits_jax.annotate.addresses import in_url, parsed
from exits_jax.annotate.speak.doors import Door

OWN_HEADER = "x-exits-jax"  # no form and no other page can send it
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: "
    "data:; connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action "
    "'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_NO_TOKEN = (
    "Open the address that the terminal shows, with its token: this page has none, or "
    "one of an earlier start."
)


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str,
        port: int,
        hosts: Collection[str],
        doors: Collection[Door] = (),
    ):
        """Takes the application and who may reach it.

        Args:
            app: What is guarded.
            token: What a caller has to know.
            port: Of the server: cookies of a host do not tell ports apart.
            hosts: Names it answers to, without port.
            doors: Of other tools.
        """
        self._app, self._token, self._doors = app, token, doors
        self._cookie = f"exits_jax_{port}"
        self._hosts = {f"{host}:{port}" for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers what is refused itself, and passes on the rest."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        refusal, is_new = self._refusal(scope, headers)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    answer[name] = value
                if "Cache-Control" not in answer:
                    answer["Cache-Control"] = "no-store"
                if is_new:
                    answer["Set-Cookie"] = (
                        f"{self._cookie}={self._token}; Path=/; HttpOnly; "
                        "SameSite=Strict"
                    )
            await send(message)

        await (refusal or self._app)(scope, receive, sending)

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[Response | None, bool]:
        """What to answer instead, if anything; and whether to hand out the cookie."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts | _own(scope):
            return PlainTextResponse("This server has another name.", 400), False
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return JSONResponse({"error": "Only GET, HEAD and POST."}, 405), False
        for door in self._doors:
            if door.leads_to(scope["path"]):
                return door.refusal(scope, headers, self._token), False
        is_new = scope["path"] == "/" and self._is_token(_asked(scope))
        if not is_new and not self._is_token(self._of_cookie(headers)):
            return PlainTextResponse(_NO_TOKEN, 403), False
        if scope["method"] != "POST":
            return None, is_new
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin != f"http://{hosts[0]}" or site not in (None, "same-origin"):
            return JSONResponse({"error": "It comes from another page."}, 403), False
        if OWN_HEADER not in headers:
            return JSONResponse({"error": f"No header {OWN_HEADER}."}, 403), False
        if headers.get("content-type", "").lower() != "application/json":
            return JSONResponse({"error": "Expected application/json."}, 415), False
        return None, False

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())

    def _of_cookie(self, headers: Headers) -> str:
        # Other programs of this machine have cookies here, too, of any kind.
        return cookie_parser(headers.get("cookie", "")).get(self._cookie, "")


def _own(scope: Scope) -> set[str]:
    """The address that a connection came in on: a number, which no DNS can rebind."""
    server = scope.get("server")
    if not server or server[1] is None:
        return set()
    host, port = server
    return {f"{in_url(str(parsed(host) or host))}:{port}"}


def _asked(scope: Scope) -> str:
    """The token in the address."""
    query = scope["query_string"].decode("latin-1")
    try:
        return parse_qs(query, max_num_fields=10).get("token", [""])[0]
    except ValueError:
        return ""
