"""What the tests of the examples share."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def _no_settings_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is set on the machine must not decide whether the examples work."""
    for name in list(os.environ):
        if name.startswith(("OPSCORE_", "AGENTKIT_")):
            monkeypatch.delenv(name)
