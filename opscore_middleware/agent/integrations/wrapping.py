"""How integrations reach into frameworks: into known versions, once, and without a trace else."""

from __future__ import annotations

import functools
import importlib.metadata
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from opscore_middleware.errors import ConfigurationError

__all__ = ["Around", "require_version", "wrap_method", "wrap_overrides"]

Around: TypeAlias = Callable[..., Awaitable[Any]]
"""Is called with a coroutine function and its arguments; calls it and returns what it returns."""

_MARK: Final = "__opscore_integration__"


def require_version(distribution: str, *versions: int | str) -> None:
    """Check that a package is one of the versions that an integration was made for.

    They are given by what they begin with: `1` stands for all of 1.x, `"0.16"` for all of 0.16.x.

    Raises:
        ConfigurationError: it is another one.
    """
    found = importlib.metadata.version(distribution)
    if not any(f"{found}.".startswith(f"{version}.") for version in versions):
        known = " and ".join(f"{version}.x" for version in versions)
        raise ConfigurationError(f"it is made for {distribution} {known}, and {found} is installed")


def wrap_method(owner: Any, name: str, parameters: tuple[str, ...], around: Around) -> None:
    """Wrap a method of a class, or a function of a module, whose parameters begin as known.

    Raises:
        ConfigurationError: they do not.
    """
    method = getattr(owner, name)
    begin = tuple(inspect.signature(method).parameters)[: len(parameters)]
    if begin != parameters:
        raise ConfigurationError(
            f"{owner.__name__}.{name} takes {', '.join(begin)} and not {', '.join(parameters)}"
        )
    _wrap(owner, name, around)


def wrap_overrides(base: Any, name: str, around: Around) -> None:
    """Wrap a method in all subclasses of the class that asks for it, also in those to come."""
    inherited = base.__dict__.get("__init_subclass__")

    def follow(cls: Any, /, **options: Any) -> None:
        if inherited is None:
            super(base, cls).__init_subclass__(**options)
        else:
            inherited.__get__(None, cls)(**options)
        _wrap(cls, name, around)

    base.__init_subclass__ = classmethod(follow)
    for cls in _subclasses(base):
        _wrap(cls, name, around)


def _wrap(owner: Any, name: str, around: Around) -> None:
    found = owner.__dict__.get(name)
    static = isinstance(found, staticmethod)
    method: Any = found.__func__ if static else found
    if not inspect.iscoroutinefunction(method) or hasattr(method, _MARK):
        return

    @functools.wraps(method)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await around(method, *args, **kwargs)

    setattr(wrapper, _MARK, True)
    setattr(owner, name, staticmethod(wrapper) if static else wrapper)


def _subclasses(base: Any) -> set[Any]:
    found: set[Any] = set()
    waiting = [base]
    while waiting:
        for cls in waiting.pop().__subclasses__():
            if cls not in found:
                found.add(cls)
                waiting.append(cls)
    return found
