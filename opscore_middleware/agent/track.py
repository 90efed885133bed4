"""Work that the app does beside or beyond its requests, as units that count."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, cast, overload

from opscore_middleware.agent.unit import Unit, find_origin

__all__ = ["Tracked", "track"]

F = TypeVar("F", bound=Callable[..., Any])


@overload
def track(name: F) -> F: ...


@overload
def track(name: str | None = None) -> Tracked: ...


def track(name: Any = None) -> Any:
    """Count a piece of work that the request alone does not show.

    Use it as a context manager (`with track("index"):`, `async with` too) or as a decorator
    (`@track` or `@track("index")`) around a function, coroutine function or generator, in any task
    or thread. The agent is active while a unit is open. A unit that raises is a failure of the
    agent; cancellation is not. Within a request that carries a task, the unit knows the task, and
    ends it where it outlives the request.

    The agent is the one whose request or lifespan the code descends from, else the only one of
    the process. Without any, nothing is counted.

    Args:
        name: what the work is called in the details of a failure; a function's own name unless
            given.
    """
    if callable(name):
        return Tracked(None)(name)
    if name is not None and not isinstance(name, str):
        raise _is_no_function(name)
    return Tracked(name)


def _is_no_function(what: object) -> TypeError:
    return TypeError(
        f"track() takes a name or a function, not {what!r}. Where it stands above @classmethod, "
        "@staticmethod or @property, put it below."
    )


class Tracked:
    """What `track` returns: a context manager to enter once, or a decorator."""

    def __init__(self, name: str | None) -> None:
        self._name = name
        self._open: Unit | None = None
        self._entered = False

    def __enter__(self) -> Self:
        if self._entered:
            raise RuntimeError("track() counts one unit of work; call it again for another")
        self._entered = True
        origin = find_origin()
        self._open = None if origin is None else Unit(origin, self._name)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False]:
        unit, self._open = self._open, None
        if unit is not None:
            unit.end(exception)
        return False

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False]:
        return self.__exit__(kind, exception, traceback)

    def __call__(self, function: F) -> F:
        """Return the function with each of its calls counted as one unit."""
        name = self._name or str(getattr(function, "__qualname__", type(function).__qualname__))
        wrapper: Any = _WRAPPERS[_kind(function)](function, name)
        return cast("F", functools.wraps(function)(wrapper))


def _kind(function: Any) -> str:
    if not callable(function) or isinstance(function, staticmethod):
        raise _is_no_function(function)
    for called in (function, type(function).__call__):  # an object's way to be called, too
        if inspect.iscoroutinefunction(called):
            return "coroutine"
        if inspect.isasyncgenfunction(called):
            return "async generator"
        if inspect.isgeneratorfunction(called):
            return "generator"
    return "function"


def _around_function(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with track(name):
            return function(*args, **kwargs)

    return wrapper


def _around_coroutine(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        with track(name):
            return await function(*args, **kwargs)

    return wrapper


def _around_generator(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        with track(name):
            return (yield from function(*args, **kwargs))

    return wrapper


def _around_async_generator(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        generator = function(*args, **kwargs)
        with track(name):
            try:
                step = generator.__anext__()
                while True:
                    try:
                        item = await step
                    except StopAsyncIteration:
                        return
                    try:
                        sent = yield item
                        step = generator.asend(sent)
                    except GeneratorExit:
                        raise
                    except BaseException as thrown:
                        step = generator.athrow(thrown)
            finally:
                await generator.aclose()

    return wrapper


_WRAPPERS = {
    "function": _around_function,
    "coroutine": _around_coroutine,
    "generator": _around_generator,
    "async generator": _around_async_generator,
}
