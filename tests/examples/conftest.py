"""What the tests of the examples share."""

from __future__ import annotations

import importlib
import os
import sys

import pytest
from fastapi import FastAPI

from tests.support.processes import clean_environment


@pytest.fixture(autouse=True)
def _no_settings_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is set on the machine must not decide whether the examples work."""
    for name in os.environ.keys() - clean_environment().keys():
        monkeypatch.delenv(name)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    """The example as a fresh process has it: it reads the environment when it is first used."""
    name = "examples.fastapi_agent.app"
    monkeypatch.delitem(sys.modules, name, raising=False)
    fresh: FastAPI = importlib.import_module(name).app
    return fresh
