"""Which requests are work."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from enum import Enum, auto
from typing import Any

from opscore_middleware.agent.settings import NEVER_WORK, Settings

__all__ = ["Kind", "Rules"]


class Kind(Enum):
    """How a request counts."""

    READ = auto()
    """Once it has run for the grace, unless it is an event stream."""
    WORK = auto()
    """From its start."""


class Rules:
    """Tells requests that are work from those that are not.

    Args:
        settings: `methods`, `include` and `exclude`; a path that `include` matches is work by any
            method but HEAD and OPTIONS.
    """

    def __init__(self, settings: Settings) -> None:
        self.by_method: Mapping[str, Kind] = {
            "GET": Kind.READ,
            **dict.fromkeys(settings.methods, Kind.WORK),
        }
        """How requests count by their method; those that are absent never do."""
        self._include = _either(settings.include)
        self._exclude = _either(settings.exclude)
        self.by_path = self._include is not None or self._exclude is not None
        """Whether paths matter, so that `kind` must be asked."""

    def kind(self, scope: Mapping[str, Any]) -> Kind | None:
        """Say how a request counts by its path and method; None when it never does."""
        method = scope["method"]
        if method in NEVER_WORK:
            return None
        paths = _paths(scope)
        if self._include is not None and any(map(self._include.match, paths)):
            return Kind.WORK
        if self._exclude is not None and any(map(self._exclude.match, paths)):
            return None
        return self.by_method.get(method)


def _paths(scope: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the path as it came and, where the app stands below another one, as the app's own.

    Servers with a root path put it before what came, or do not: a pattern cannot know.
    """
    path, root = scope["path"], (scope.get("root_path") or "").rstrip("/")
    return (path, path.removeprefix(root)) if root else (path,)


def _either(globs: tuple[str, ...]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(fnmatch.translate, globs))) if globs else None
