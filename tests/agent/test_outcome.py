"""How work ended: in words that help and do not leak."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from opscore_middleware.agent.failure import Failure
from opscore_middleware.agent.outcome import (
    describe_exception,
    describe_failure,
    describe_startup,
    describe_status,
    describe_unit,
    describe_unit_failure,
    is_failure,
)


def test_cancellation_and_the_end_of_the_process_are_no_failures() -> None:
    cancelled = asyncio.CancelledError()
    for calm in (
        cancelled,
        KeyboardInterrupt(),
        SystemExit(),
        GeneratorExit(),
        BaseExceptionGroup("", [cancelled]),
        BaseExceptionGroup("", [cancelled, BaseExceptionGroup("", [cancelled])]),
    ):
        assert not is_failure(calm)
    for bad in (
        ValueError(),
        ExceptionGroup("", [ValueError()]),
        BaseExceptionGroup("", [cancelled, BaseExceptionGroup("", [cancelled, OSError()])]),
    ):
        assert is_failure(bad)


def test_trio_cancellation_is_no_failure() -> None:
    async def cancel() -> BaseException:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except BaseException as exception:
                seen = exception
                raise
        return seen

    assert not is_failure(trio.run(cancel))


def test_a_failure_is_described_by_class_message_and_route() -> None:
    scope = {"method": "POST", "path": "/run/17", "route": SimpleNamespace(path="/run/{id}")}
    assert describe_exception(ValueError("no ink"), scope) == {
        "error": {"type": "ValueError", "message": "no ink", "where": "POST /run/{id}"}
    }
    assert describe_status(503, scope)["error"]["type"] == "HTTP 503"
    assert describe_status(503, scope)["error"]["message"] == "Service Unavailable"
    assert describe_status(599, {})["error"] == {"type": "HTTP 599", "message": "Server Error"}


def test_a_group_is_described_by_the_one_failure_that_it_holds() -> None:
    cancelled = asyncio.CancelledError()
    inner = BaseExceptionGroup("unhandled errors", [cancelled, ValueError("no ink")])
    group = BaseExceptionGroup("unhandled errors", [cancelled, inner])
    told = {"type": "ValueError", "message": "no ink"}
    assert describe_exception(group, {})["error"] == told
    assert describe_unit(group, None)["error"] == told
    several = ExceptionGroup("no printer works", [ValueError("no ink"), OSError("no paper")])
    told = {"type": "ExceptionGroup", "message": "no printer works (2 sub-exceptions)"}
    assert describe_exception(several, {})["error"] == told


@pytest.mark.parametrize(
    ("left", "where"),
    [
        ({}, "POST"),  # as by Django, Quart, Falcon, Sanic and BlackSheep
        ({"path_template": "/run/{id}", "route_handler": object()}, "POST /run/{id}"),  # Litestar
        ({"endpoint": pytest.raises}, "POST raises"),
        ({"endpoint": pytest.raises, "route": SimpleNamespace(path="/run/{id}")}, "POST /run/{id}"),
    ],
)
def test_where_is_the_route_as_far_as_the_framework_leaves_it_in_the_scope(
    left: dict[str, Any], where: str
) -> None:
    scope = {"method": "POST", "path": "/run/17", **left}
    assert describe_exception(ValueError(), scope)["error"]["where"] == where


def test_no_part_of_the_request_is_told() -> None:
    scope = {
        "method": "POST",
        "path": "/users/jane@example.com",
        "query_string": b"token=secret",
        "headers": [(b"cookie", b"secret")],
    }
    told = repr(describe_exception(ValueError("no"), scope)) + repr(describe_status(500, scope))
    assert "jane" not in told
    assert "secret" not in told


class Unprintable(Exception):
    """Fails when it is looked at."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class Hostile:
    """Fails whatever is asked of it, as a proxy without its context does."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("working outside of request context")


def test_what_cannot_be_described_is_reported_all_the_same() -> None:
    told = describe_exception(Unprintable(), {"route": Hostile(), "endpoint": Hostile()})
    assert told["error"]["type"] == "Unprintable"
    assert told["error"]["message"]


@given(st.text(alphabet=st.characters(), max_size=2000) | st.just("\ud800" * 3))
def test_messages_are_bounded_and_can_be_sent(text: str) -> None:
    name = text.replace("\0", "").encode("utf-8", "replace").decode()
    kind = type(name, (Exception,), {})
    route = SimpleNamespace(path=text)
    for told in (
        describe_exception(kind(text), {"route": route}),
        describe_failure(Failure(text, text), {}),
        describe_unit(kind(text), text),
        describe_unit_failure(Failure(text, text), text),
        describe_startup(f"{text}: {text}"),
    ):
        for said in told["error"].values():
            assert len(said) <= 500
            assert "\0" not in said  # which PostgreSQL cannot hold
            said.encode()


TRACEBACK = """Traceback (most recent call last):
  File "/srv/app.py", line 7, in lifespan
    load("/etc/secret")
app.errors.ModelMissing: no weights at /models
"""


@pytest.mark.parametrize(
    ("message", "kind", "text"),
    [
        (TRACEBACK, "ModelMissing", "no weights at /models"),
        ("ValueError\n", "StartupFailed", "ValueError"),
        ("the database is away: try later", "StartupFailed", "the database is away: try later"),
        ("", "StartupFailed", "no reason given"),
    ],
)
def test_a_failed_startup_is_told_without_its_source_code(
    message: str, kind: str, text: str
) -> None:
    error = {"type": kind, "message": text, "phase": "startup"}
    assert describe_startup(message) == {"error": error}


class Many(BaseModel):
    api_key: str


def in_a_group() -> None:
    try:
        raise LookupError("no weights")
    except LookupError as error:
        raise ExceptionGroup("unhandled errors in a TaskGroup", [error]) from None


def in_many_lines() -> None:
    Many.model_validate({"password": "s3cret"})


def with_a_note() -> None:
    error = ValueError("no ink")
    error.add_note("see: the manual")
    raise error


def after_another() -> None:
    try:
        in_a_group()
    except ExceptionGroup as error:
        raise RuntimeError("first: one\nsecond: two") from error


@pytest.mark.parametrize(
    ("start", "kind", "text"),
    [
        (in_a_group, "LookupError", "no weights"),
        (in_many_lines, "ValidationError", "1 validation error for Many"),
        (with_a_note, "ValueError", "no ink"),
        (after_another, "RuntimeError", "first: one"),
    ],
)
def test_the_cause_of_a_failed_startup_is_found_whatever_stands_around_it(
    start: Callable[[], None], kind: str, text: str
) -> None:
    try:
        start()
    except Exception:
        told = describe_startup(traceback.format_exc())
    assert told == {"error": {"type": kind, "message": text, "phase": "startup"}}
