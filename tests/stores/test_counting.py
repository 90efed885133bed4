"""Stores count how many callers share a commit."""

from __future__ import annotations

import asyncio

import pytest

from opscore_middleware.core.histogram import Histogram
from opscore_middleware.core.store import CountingStore, Store
from tests.stores.support import add, said

pytestmark = pytest.mark.asyncio


def total(histogram: Histogram) -> int:
    return sum(histogram.counts)


async def test_every_caller_is_counted_in_some_commit(store: Store) -> None:
    assert isinstance(store, CountingStore)
    await add(store)
    before, commits = store.commits.sum, total(store.commits)
    await asyncio.gather(*(store.apply_reports([said(sequence=n)]) for n in range(1, 101)))
    assert store.commits.sum - before == 100
    assert 0 < total(store.commits) - commits < 100
