"""Request bodies: read up to a limit, parsed in one pass, handed on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails
from starlette.types import Message, Receive

from opscore_middleware.errors import BodyTooLarge, ValidationFailed
from opscore_middleware.server.spelling import advice

__all__ = ["Disconnected", "parse", "read", "replay"]

T = TypeVar("T")


class Disconnected(Exception):
    """The client went away before its request was whole; there is nobody left to answer."""


async def read(headers: Iterable[tuple[bytes, bytes]], receive: Receive, limit: int) -> bytes:
    """Return the whole body. Raises `BodyTooLarge` as soon as it is known to exceed `limit`.

    Raises `Disconnected` when the client leaves meanwhile.
    """
    for name, value in headers:
        # A length that is no number has been refused by the web server before.
        if name == b"content-length" and value.isdigit() and int(value) > limit:
            raise _too_large(limit)
    message = await receive()
    body: bytes = message.get("body", b"")
    if message["type"] == "http.request" and not message.get("more_body", False):
        if len(body) > limit:
            raise _too_large(limit)
        return body
    return await _read_on(message, receive, limit)


async def _read_on(message: Message, receive: Receive, limit: int) -> bytes:
    body = bytearray()
    while True:
        if message["type"] != "http.request":
            raise Disconnected
        body += message.get("body", b"")
        if len(body) > limit:
            raise _too_large(limit)
        if not message.get("more_body", False):
            return bytes(body)
        message = await receive()


def replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that hands out `body` first and then goes on with the given one."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def from_memory() -> Message:
        return pending.pop() if pending else await receive()

    return from_memory


def parse(adapter: TypeAdapter[T], body: bytes) -> T:
    """Read JSON into a model. Raises `ValidationFailed` for anything else, however broken."""
    try:
        return adapter.validate_json(body)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        raise ValidationFailed([_in_body(adapter, fault) for fault in faults]) from None


def _in_body(adapter: TypeAdapter[Any], fault: ErrorDetails) -> dict[str, Any]:
    where = {**fault, "loc": ("body", *fault["loc"])}
    if fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1:
        known = adapter.json_schema()["properties"]
        where |= {"type": "unknown_name", "msg": advice(str(fault["loc"][0]), known)}
    return where


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"The body is larger than the {limit} bytes that this server reads here; send less at "
        "once, or raise OPSCORE_MAX_BODY_BYTES (OPSCORE_MAX_BATCH_BYTES for batches).",
        max_bytes=limit,
    )
