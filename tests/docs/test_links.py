"""Every link within the repository leads somewhere."""

from __future__ import annotations

import pytest

from tests.docs.pages import ROOT, Page, pages


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_of_a_page_resolve(page: Page) -> None:
    assert broken_links(page) == []


def test_a_broken_link_is_noticed() -> None:
    text = "# Here\n\n[1](#here) [2](#there) [3](../README.md) [4](nowhere.md) [5](../README.md#no)"
    imagined = Page(ROOT / "docs" / "imagined.md", text)
    assert broken_links(imagined) == ["#there", "nowhere.md", "../README.md#no"]


def broken_links(page: Page) -> list[str]:
    """Return the links that point at no file, or at no heading of one."""
    return [link for link in page.links() if "://" not in link and not _resolves(page, link)]


def _resolves(page: Page, link: str) -> bool:
    target, _, anchor = link.partition("#")
    path = (page.path.parent / target).resolve() if target else page.path
    if not target:
        return anchor in page.anchors()
    if not path.exists() or not path.is_relative_to(ROOT):
        return False
    return not anchor or anchor in Page(path).anchors()
