"""How an error is answered: always JSON, `{"detail", "code", …context}`, never a trace."""

from __future__ import annotations

import logging
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from pydantic_core import to_json
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from opscore_middleware.errors import OpsCoreError, Overloaded, ValidationFailed
from opscore_middleware.server.logs import get_logger

__all__ = [
    "INVALID",
    "Answer",
    "AnswerFailures",
    "Problem",
    "ValidationProblem",
    "answer_to",
    "as_response",
    "problem",
    "refuse",
    "responses",
    "send_answer",
]

log = get_logger(__name__)

# What one broken body of a thousand reports may say about itself.
_MAX_FAULTS: Final = 50
_MAX_INPUT: Final = 200

_HEADERS: Final[Mapping[int, tuple[tuple[bytes, bytes], ...]]] = {
    401: ((b"www-authenticate", b"Bearer"),),
    503: ((b"retry-after", b"1"),),
}


class Problem(BaseModel):
    """Why a request was refused: a sentence for a person, a name for a program, and context."""

    model_config = ConfigDict(extra="allow")

    detail: str
    code: str


class Fault(BaseModel):
    """One fault of a request and where it is."""

    model_config = ConfigDict(extra="allow")

    type: str
    loc: list[str | int]
    msg: str


class ValidationProblem(BaseModel):
    """Why a request does not have the documented shape."""

    detail: list[Fault]
    code: Literal["validation_failed"]


INVALID: Final[dict[int | str, dict[str, Any]]] = {
    422: {
        "model": ValidationProblem | Problem,
        "description": "Not the documented shape, or a definition with faults, or a key that was "
        "used for another request",
    }
}
"""Documents a 422 that says more than where a body is not as documented."""


class Answer(NamedTuple):
    """A whole response."""

    status: int
    code: str
    headers: list[tuple[bytes, bytes]]
    body: bytes


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Document the errors that a route answers with."""
    words = {
        400: "A rule of the contract is broken",
        401: "The key, or the signature, is missing or wrong",
        403: "The key opens something else",
        404: "Nothing by that id",
        409: "It contradicts what is so already",
        410: "Deregistered on purpose",
        413: "The body is too large",
        422: "Not the documented shape",
        429: "Too much is waiting to be written",
        503: "The database cannot be used right now",
    }
    return {
        status: {
            "model": ValidationProblem if status == 422 else Problem,
            "description": words[status],
        }
        for status in (401, 403, *statuses, 503)
    }


def problem(
    status: int,
    code: str,
    detail: Any,
    *,
    headers: Sequence[tuple[bytes, bytes]] = (),
    **context: Any,
) -> Answer:
    """Return the answer that says what is wrong; the names in `context` travel in camelCase."""
    named = {to_camel(name): value for name, value in context.items()}
    body = to_json({**named, "detail": detail, "code": code}, inf_nan_mode="null", fallback=str)
    length = str(len(body)).encode()
    own = [(b"content-type", b"application/json"), (b"content-length", length), *headers]
    return Answer(status, code, own, body)


def answer_to(error: Exception) -> Answer:
    """Return the answer to an error; one that nobody expected is logged and given an id."""
    if isinstance(error, ValidationFailed):
        return problem(error.status, error.code, _faults(error.errors))
    if isinstance(error, OpsCoreError) and error.status != 500:
        return problem(
            error.status,
            error.code,
            error.message,
            headers=_headers(error),
            **error.context,
        )
    error_id = uuid.uuid4().hex
    log.error("internal_error", error_id=error_id, exc_info=error)
    return problem(
        500,
        "internal_error",
        f"Something went wrong inside Ops-Core; its log has the details under {error_id}.",
        error_id=error_id,
    )


def _headers(error: OpsCoreError) -> Sequence[tuple[bytes, bytes]]:
    if isinstance(error, Overloaded):
        return ((b"retry-after", b"%d" % error.retry_after),)
    return _HEADERS.get(error.status, ())


def refuse(event: str, scope: Scope, answer: Answer, refusals: Counter[str]) -> Answer:
    """Log and count that a request is refused, and return the answer that says so."""
    refusals[answer.code] += 1
    # Too much load is told of as it begins and ends: a line for each would be more of it.
    log.log(
        logging.DEBUG if answer.code == Overloaded.code else logging.INFO,
        event,
        code=answer.code,
        status=answer.status,
        method=scope["method"],
        # Encoded again: what a stranger asked for may hold what drives a terminal.
        path=quote(scope["path"]),
    )
    return answer


def as_response(answer: Answer) -> Response:
    """Return an answer as what FastAPI's handlers return."""
    response = Response(answer.body, answer.status)
    response.raw_headers = answer.headers
    return response


async def send_answer(answer: Answer, send: Send) -> None:
    """Send a whole response."""
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    await send({"type": "http.response.body", "body": answer.body})


class AnswerFailures:
    """Answers what nobody expected, as long as nothing has been sent yet."""

    def __init__(self, app: ASGIApp, refusals: Counter[str]) -> None:
        self._app = app
        self._refusals = refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception as error:
            if started or scope["type"] != "http":
                raise
            answer = refuse("request_refused", scope, answer_to(error), self._refusals)
            await send_answer(answer, send)


def _faults(errors: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in fault.items() if name != "input" or _is_short(value)}
        for fault in errors[:_MAX_FAULTS]
    ]


def _is_short(value: Any) -> bool:
    match value:
        case None | bool() | float():
            return True
        case int():
            return value.bit_length() <= 64
        case str():
            return len(value) <= _MAX_INPUT
    return False
