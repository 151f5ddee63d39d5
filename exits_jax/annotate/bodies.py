"""What a request brings: of a limited size, JSON, of the right types."""

from typing import Any, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

_Body = TypeVar("_Body")


async def read_body(request: Request, kind: type[_Body], *, most: int) -> _Body:
    """The body of a request.

    Args:
        request: Whose.
        kind: What it has to be.
        most: Largest size, bytes; what is larger is not read to its end.

    Raises:
        HTTPException: If it is larger (413), or something else (400).
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise HTTPException(413, f"At most {most} bytes.")
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise HTTPException(400, f"The request makes no sense: {error}") from None


def answer(value: Any, status: int = 200) -> Response:
    """A value as JSON."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")
