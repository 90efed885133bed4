"""The tests of Starlette's that say something else with us than without, and why that is right."""

from __future__ import annotations

from typing import Final

__all__ = ["EXPLAINED"]

EXPLAINED: Final[dict[str, dict[str, str]]] = {"around": {}, "inside": {}}
"""Where our middleware is, the test (without its parameters), and the reason."""
