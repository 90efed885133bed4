"""How pages are read: a checker that overlooks things would keep every page green."""

from __future__ import annotations

import traceback
from pathlib import Path
from textwrap import dedent

import pytest

from tests.docs.pages import ROOT, Page, pages


def page(text: str) -> Page:
    return Page(ROOT / "docs" / "imagined.md", dedent(text))


def test_every_page_is_found() -> None:
    names = {page.name for page in pages()}
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/index.md"} <= names
    assert "examples/fastapi_agent/README.md" in names
    assert any(name.startswith("docs/adr/") for name in names)


def test_blocks_share_the_namespace_of_their_page() -> None:
    namespace: dict[str, object] = {}
    assert not page("```python\nx = 2\n```\n\nand\n\n```python\ny = x * 21\n```\n").run(namespace)
    assert namespace["y"] == 42


def test_a_failing_block_names_its_page_and_line() -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        page("# T\n\n```python\nx = 1\nx / 0\n```\n").run({})
    last = traceback.extract_tb(raised.tb)[-1]
    assert (Path(last.filename).name, last.lineno) == ("imagined.md", 5)


def test_a_block_is_left_out_only_with_a_reason() -> None:
    (left_out,) = page("<!-- not run: needs a key -->\n```python\n1 / 0\n```\n").run({})
    assert left_out.not_run == "needs a key"
    with pytest.raises(ZeroDivisionError):
        page("<!-- not run: -->\n```python\n1 / 0\n```\n").run({})


def test_links_and_headings_are_found() -> None:
    text = "# What `x.y` *is*, and why\n\n[a](b.md#c) ![d](e.png) https://plain.example\n"
    assert page(text).links() == ["b.md#c", "e.png"]
    assert page(text).anchors() == {"what-xy-is-and-why"}
