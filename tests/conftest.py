"""How the suite is spread over its workers."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

HERE: Final = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep tests that share a fixture on one worker, which then makes it once."""
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("xdist_group") is None:
            home = _home(item)
            if home is not None:
                item.add_marker(pytest.mark.xdist_group(home))


def _home(item: pytest.Function) -> str | None:
    """Return the name of what a test belongs to; None where it shares nothing."""
    if "mortal_postgres" in item.fixturenames:
        return "mortal_postgres"
    definitions = [known[-1] for known in item._fixtureinfo.name2fixturedefs.values()]
    # Fixtures of pytest's plugins have such scopes too, and cost nothing.
    shared = {d.scope for d in definitions if (HERE.parent / d.baseid).is_relative_to(HERE)}
    if "package" in shared:
        return str(item.path.parent.relative_to(HERE))
    return str(item.path.relative_to(HERE)) if "module" in shared else None
