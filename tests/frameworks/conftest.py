"""What every framework's tests stand on: the fixtures of the agent half, and something to do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.agent.conftest import (
    _no_reporter_outlives_its_test,
    _no_settings_of_the_machine,
    ops_core,
)
from tests.frameworks.easel import EASEL, Easel

__all__ = ["_no_reporter_outlives_its_test", "_no_settings_of_the_machine", "easel", "ops_core"]


@pytest.fixture(autouse=True)
def easel() -> Iterator[Easel]:
    """Return what paints; nothing waits for it when the test is over."""
    EASEL.may_go_on.clear()
    EASEL.has_begun.clear()
    yield EASEL
    EASEL.may_go_on.set()
