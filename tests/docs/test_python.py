"""Every Python block of README and docs runs, with an Ops-Core to report to."""

from __future__ import annotations

from typing import Any

import pytest

from opscore_middleware.testing import RunningOpsCore
from tests.docs.pages import Page, pages


@pytest.mark.parametrize(
    "page", [page for page in pages() if page.blocks("python")], ids=lambda page: page.name
)
def test_python_of_a_page_runs(page: Page, opscore: RunningOpsCore) -> None:
    namespace: dict[str, Any] = {"__name__": "__docs__"}
    left_out = page.run(namespace)
    assert len(left_out) < len(page.blocks("python"))
