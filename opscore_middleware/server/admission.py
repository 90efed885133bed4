"""Requests that stay open, held against the keys again while they are."""

from __future__ import annotations

from starlette.types import Scope

from opscore_middleware.errors import Forbidden, Unauthorized
from opscore_middleware.server.access import Access, Names
from opscore_middleware.server.auth import Guard
from opscore_middleware.server.gate import ACCESS, route_path

__all__ = ["Admission"]


class Admission:
    """What a request was let in by.

    Args:
        guard: holds it against the keys.
        names: knows whose agent an id is.
        scope: the request's, as the gate has let it pass.
    """

    def __init__(self, guard: Guard, names: Names, scope: Scope) -> None:
        self._guard = guard
        self._names = names
        self._path = route_path(scope)
        self._asked = (scope["method"], self._path, scope["headers"])
        self._given: Access = scope[ACCESS]

    @property
    def holds(self) -> bool:
        """Whether the key still opens what it did; asks no database."""
        try:
            return self._guard.check(*self._asked) == self._given
        except (Unauthorized, Forbidden):
            return False

    async def require(self) -> None:
        """Raise what the request would be refused with if it came now."""
        access = self._guard.check(*self._asked)
        if access.scope.names is not None:
            await self._names.require(access, self._path)
