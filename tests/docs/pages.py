"""Markdown pages as tests need them: their code blocks, links and headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

__all__ = ["ROOT", "Block", "Page", "pages"]

ROOT: Final = Path(__file__).resolve().parents[2]

_NOT_RUN: Final = re.compile(r"<!--\s*not run:\s*(?P<reason>\S.*?)\s*-->\s*")
_MARKUP: Final = re.compile(r"[^\w\- ]")


@dataclass(frozen=True)
class Block:
    """A fenced block of code; `line` is where its first line of code stands, from 1.

    `not_run` is the reason given in a comment right above the fence, `<!-- not run: … -->`.
    """

    language: str
    code: str
    line: int
    not_run: str | None


class Page:
    """One Markdown file."""

    def __init__(self, path: Path, text: str | None = None) -> None:
        self.path = path
        self.text = path.read_text(encoding="utf-8") if text is None else text
        self._tokens = MarkdownIt("commonmark").enable("table").parse(self.text)

    @property
    def name(self) -> str:
        """The path as a reader would write it."""
        return self.path.relative_to(ROOT).as_posix()

    def blocks(self, *languages: str) -> list[Block]:
        """Return the fenced blocks in any of the languages, in order."""
        return [
            Block(token.info.split()[0], token.content, (token.map or [0])[0] + 2, _reason(before))
            for before, token in zip([None, *self._tokens], self._tokens, strict=False)
            if token.type == "fence" and token.info.split()[:1] in [[name] for name in languages]
        ]

    def links(self) -> list[str]:
        """Return the targets of links and images, as written."""
        attributes = (token.attrs for token in _inside(self._tokens))
        return [str(target) for a in attributes if (target := a.get("href") or a.get("src"))]

    def anchors(self) -> set[str]:
        """Return what `#…` may point at, by the rule that code hosts use for headings."""
        headings = [
            following.content
            for token, following in zip(self._tokens, self._tokens[1:], strict=False)
            if token.type == "heading_open"
        ]
        return {_MARKUP.sub("", text.lower()).replace(" ", "-") for text in headings}

    def run(self, namespace: dict[str, Any]) -> list[Block]:
        """Run the Python blocks one after another, in one namespace; return those left out.

        A traceback names the page and its line.
        """
        left_out = []
        for block in self.blocks("python"):
            if block.not_run is not None:
                left_out.append(block)
                continue
            code = compile("\n" * (block.line - 1) + block.code, str(self.path), "exec")
            exec(code, namespace)  # noqa: S102 - our own pages
        return left_out


@cache
def pages() -> tuple[Page, ...]:
    """Return README and every other page of ours, read once."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
    return tuple(Page(path) for path in sorted(found))


def _reason(before: Token | None) -> str | None:
    if before is None or before.type != "html_block":
        return None
    found = _NOT_RUN.fullmatch(before.content)
    return found["reason"] if found else None


def _inside(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _inside(token.children or [])
