"""Every workflow that a page shows is taken, and every field that there is has its place there."""

from __future__ import annotations

import re

import pytest
from pydantic.alias_generators import to_camel

from opscore_middleware.core.workflows.definition import (
    Retry,
    TaskDefinition,
    Timeouts,
    WorkflowDefinition,
)
from opscore_middleware.core.workflows.validation import check
from opscore_middleware.notations.cron import next_run
from opscore_middleware.notations.documents import read_document
from opscore_middleware.notations.expressions import JmesPath
from tests.docs.pages import ROOT, Block, Page, pages

PAGE = Page(ROOT / "docs" / "workflows.md")
SHOWN = [
    pytest.param(block, id=f"{page.name}:{block.line}")
    for page in pages()
    for block in page.blocks("yaml")
    if "taskId:" in block.code
]


def test_the_page_shows_workflows() -> None:
    assert len(SHOWN) >= 7


@pytest.mark.parametrize("block", SHOWN)
def test_a_workflow_that_is_shown_is_right(block: Block) -> None:
    found = check(read_document(block.code).value, expressions=JmesPath(), cron=next_run)
    assert [f"{fault.path}: {fault.message}" for fault in found] == []


@pytest.mark.parametrize("model", [WorkflowDefinition, TaskDefinition, Retry, Timeouts])
def test_every_field_is_told_of(model: type) -> None:
    told = set(re.findall(r"^\| `(\w+)` \|", PAGE.text, re.MULTILINE))
    fields = {to_camel(name) for name in model.model_fields}
    assert fields <= told
