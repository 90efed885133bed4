"""Where an agent takes tasks: an ASGI app that chooses the handler and tells how it went."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from opscore_middleware.agent.tasks.attempts import Attempt, Attempts
from opscore_middleware.agent.tasks.handler import Handler
from opscore_middleware.agent.tasks.message import TaskMessage, faults, read_message
from opscore_middleware.agent.tasks.run import Run
from opscore_middleware.agent.unit import find_origin
from opscore_middleware.errors import ConfigurationError

__all__ = ["TaskRouter"]

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])


class TaskRouter:
    """Takes the tasks that Ops-Core gives out, and has each done by the handler of its name.

    An ASGI app, to be routed to: `app.router.routes.append(tasks.route("/task"))`. A task is
    acknowledged with 202 and done after that, or where its handler is `inline`, answered with its
    result. An attempt that comes again is not done again.

    Under `OpsCoreMiddleware` its end is reported with its result, or with why it failed; without
    one it is done all the same.
    """

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}
        self._attempts = Attempts()

    @property
    def names(self) -> list[str]:
        """The names of the tasks that there are handlers for, fit for `capabilities=`."""
        return list(self._handlers)

    def task(self, name: str, *, inline: bool = False) -> Callable[[F], F]:
        """Have a coroutine function do the tasks of a name.

        Its parameters are the fields of the task's payload, checked by their annotations, or one
        pydantic model alone for all of it; one that is annotated with `TaskContext` gets that. What
        it returns is the result. A `starlette.exceptions.HTTPException` says how it failed: one of
        4xx, that trying again is no use.

        Args:
            name: the task's name, else the capability that it asks for.
            inline: answer with the result, for what is quick.

        Raises:
            ConfigurationError: the name has a handler already, or the function cannot be one.
        """

        def register(function: F) -> F:
            if name in self._handlers:
                raise ConfigurationError(
                    f"task {name!r} has a handler already, "
                    f"{self._handlers[name].function.__qualname__}; give this one another name."
                )
            self._handlers[name] = Handler.of(name, function, inline=inline)
            return function

        return register

    def route(self, path: str) -> Route:
        """Return a route for exactly this path; mounting would answer at `path/` alone."""
        return Route(path, self, methods=["POST"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            raise ConfigurationError(
                f"TaskRouter takes HTTP requests, not {scope['type']}; route only those to it."
            )
        request = Request(scope, receive)
        if request.method != "POST":
            refusal = _refusal(405, "Tasks come by POST.", "method_not_allowed", Allow="POST")
            await refusal(scope, receive, send)
            return
        headers = _decoded(scope["headers"])
        try:
            message = read_message(await request.body(), headers)
        except ValidationError as refused:
            await _unfit(faults(refused))(scope, receive, send)
            return
        await self._take(message, headers, scope, receive, send)

    async def _take(
        self,
        message: TaskMessage,
        headers: Mapping[str, str],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        capability = headers.get("x-opscore-capability")
        handler = self._handlers.get(message.task_name or "") or self._handlers.get(
            capability or ""
        )
        if handler is None:
            await self._unknown(message.task_name or capability)(scope, receive, send)
            return
        try:
            arguments = handler.arguments(message.payload)
        except ValidationError as refused:
            unfit = [{**fault, "loc": ["payload", *fault["loc"]]} for fault in faults(refused)]
            await _unfit(unfit)(scope, receive, send)
            return
        attempt, is_new = self._attempts.begin(message.opscore_task_id)
        if not is_new:
            await (await _again(attempt, handler))(scope, receive, send)
            return
        try:
            run = Run(handler, arguments, message, attempt, find_origin())
            if handler.inline:
                await (await run.inline())(scope, receive, send)
            else:
                await _accepted()(scope, receive, send)
                await run.in_background()
        finally:
            if not attempt.over.is_set():  # cancelled, or nobody was left to acknowledge it to
                self._attempts.forget(message.opscore_task_id)
                attempt.ends(503, b"")

    def _unknown(self, name: str | None) -> Response:
        known = ", ".join(sorted(self._handlers)) or "none"
        asked = "The task has no name" if name is None else f"No handler for task {name!r}"
        return _refusal(404, f"{asked}; there are handlers for: {known}.", "unknown_task")


async def _again(attempt: Attempt, handler: Handler) -> Response:
    """Answer an attempt that has come before with what has become of it."""
    if not handler.inline and not attempt.over.is_set():
        return _accepted()
    await attempt.over.wait()
    return attempt.answer()


def _decoded(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers as texts; Ops-Core's are in UTF-8, which Starlette does not take them for."""
    return {name.decode("latin-1"): value.decode("utf-8", "replace") for name, value in headers}


def _accepted() -> Response:
    return JSONResponse({"status": "accepted"}, 202)


def _unfit(found: list[dict[str, Any]]) -> Response:
    return JSONResponse({"detail": found, "code": "validation_failed"}, 422)


def _refusal(status: int, detail: str, code: str, **headers: str) -> Response:
    return JSONResponse({"detail": detail, "code": code}, status, headers=headers)
