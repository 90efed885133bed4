"""What people and their programs write, field by field."""

from __future__ import annotations

from pydantic import ConfigDict

from opscore_middleware.core.models import Wire

__all__ = ["Written"]


class Written(Wire):
    """A body of our own endpoints: a name in it that is unknown is a slip, and refused."""

    model_config = ConfigDict(extra="forbid")
