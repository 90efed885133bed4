"""`Idempotency-Key`: a request that creates something does so once, however often it comes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Annotated, Any, Final

from fastapi import Header, Request
from pydantic import BaseModel
from starlette.responses import Response

from opscore_middleware.core.clock import SECOND, Clock
from opscore_middleware.core.runs.records import Creation, Repeated
from opscore_middleware.server.gate import ACCESS

__all__ = ["IdempotencyKey", "answer_again", "creation"]

_KEPT: Final = 24 * 3600 * SECOND
"""How long a key is remembered, in microseconds."""

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="The same key again within a day gets the same answer, and creates nothing.",
    ),
]
"""What a client calls a request that it may have to send again."""

Answer = Callable[[Any], tuple[int, BaseModel]]
"""Turns what was created into the status and the body of the answer."""


async def creation(
    request: Request, key: str | None, answer: Answer, *, clock: Clock
) -> Creation | None:
    """Return what makes a request idempotent; None where it carries no key.

    A key is one caller's own, and belongs to one route.
    """
    if key is None:
        return None
    caller = request.scope[ACCESS].name

    def written(created: Any) -> str:
        status, body = answer(created)
        return f"{status} {body.model_dump_json(by_alias=True)}"

    return Creation(
        key=f"{caller}\n{request.method} {request.url.path}\n{key}",
        fingerprint=hashlib.sha256(await request.body()).hexdigest(),
        until=clock() + _KEPT,
        answer=written,
    )


async def answer_again(_request: Request, error: Exception) -> Response:
    """Answer a request as the first time that its key came."""
    if not isinstance(error, Repeated):
        raise error
    status, _, body = error.answer.partition(" ")
    headers = {"Idempotent-Replayed": "true"}
    return Response(body, int(status), headers=headers, media_type="application/json")
