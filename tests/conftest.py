"""What holds for every test."""

from __future__ import annotations

import gc
from collections.abc import Generator

import pytest
from hypothesis import settings

# Where a test says nothing else. The suite is run often and its examples are drawn anew each time,
# so many short looks find what one long look would.
settings.register_profile("suite", max_examples=25)
settings.load_profile("suite")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep what is loaded by the time that tests begin out of garbage collections: it is much, it
    stays, and tests that ask for a collection would have all of it looked through.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Take the rooms from the last to the first: those that start processes come late by name, and
    the short modules of the first rooms are what workers can share out evenly at the end.
    """
    items.sort(key=lambda item: item.path.parts, reverse=True)
