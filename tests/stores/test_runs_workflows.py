"""Definitions: kept in versions, the latest of each listed."""

from __future__ import annotations

import asyncio

import pytest

from opscore_middleware.core.runs.records import StoredWorkflow
from tests.stores.run_support import Everything
from tests.stores.support import NOW

pytestmark = pytest.mark.asyncio


async def test_a_definition_is_kept_in_versions(running: Everything) -> None:
    one, two = StoredWorkflow("w", 1, '{"ü":1}', NOW), StoredWorkflow("w", 2, "{}", NOW + 1)
    assert await running.save_workflow("w", '{"ü":1}', now=NOW) == (one, True)
    assert await running.save_workflow("w", "{}", now=NOW + 1) == (two, True)
    assert await running.get_workflow("w") == two
    assert await running.get_workflow("w", version=1) == one
    assert await running.get_workflow("w", version=3) is None
    assert await running.get_workflow("other") is None


async def test_the_text_of_the_latest_version_is_not_kept_again(running: Everything) -> None:
    first, _ = await running.save_workflow("w", "1", now=NOW)
    assert await running.save_workflow("w", "1", now=NOW + 9) == (first, False)
    await running.save_workflow("w", "2", now=NOW)
    third, is_new = await running.save_workflow("w", "1", now=NOW)
    assert (third.version, is_new) == (3, True)


async def test_versions_saved_at_once_are_numbered_without_gap_or_repeat(
    running: Everything,
) -> None:
    saved = await asyncio.gather(
        *(running.save_workflow("w", str(n % 20), now=NOW) for n in range(40))
    )
    versions = sorted(workflow.version for workflow, is_new in saved if is_new)
    assert versions == list(range(1, len(versions) + 1))
    assert len(versions) >= 20


async def test_the_latest_versions_are_listed_by_id(running: Everything) -> None:
    for workflow_id in ("b", "a", "c", "b"):
        await running.save_workflow(workflow_id, f"{NOW}", now=NOW)
    await running.save_workflow("b", "new", now=NOW)
    listed = await running.list_workflows(after=None, limit=2)
    assert [(w.workflow_id, w.version) for w in listed] == [("a", 1), ("b", 2)]
    rest = await running.list_workflows(after="b", limit=2)
    assert [w.workflow_id for w in rest] == ["c"]
