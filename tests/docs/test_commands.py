"""Every command that a page shows exists, with its options and arguments."""

from __future__ import annotations

import re
import shlex

import pytest
from typer.testing import CliRunner

from opscore_middleware.cli.app import app
from tests.docs.pages import ROOT, Page, pages

_TARGETS = re.compile(r"^(\w+):.*##", re.MULTILINE)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_commands_of_a_page_exist(page: Page) -> None:
    assert {line: problem for line in commands(page) if (problem := refusal(line))} == {}


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_make_targets_of_a_page_exist(page: Page) -> None:
    targets = set(_TARGETS.findall((ROOT / "Makefile").read_text(encoding="utf-8")))
    assert set(re.findall(r"`make (\w+)", page.text)) <= targets


def test_the_readme_shows_commands() -> None:
    assert len(commands(Page(ROOT / "README.md"))) >= 2


@pytest.mark.parametrize("line", ["opscore sevre", "opscore serve --prot 1", "opscore agents lst"])
def test_a_command_that_does_not_exist_is_noticed(line: str) -> None:
    assert "No such" in refusal(line)


def test_commands_are_found_behind_prompts_settings_and_continued_lines() -> None:
    text = (
        "```console\n$ OPSCORE_API_KEY=k opscore serve \\\n    --port 1  # why\nwhat it says\n"
        "```\n\n```bash\nopscore agents list | head\n```\n"
    )
    found = commands(Page(ROOT / "docs" / "imagined.md", text))
    assert found == ["opscore serve --port 1", "opscore agents list"]


def commands(page: Page) -> list[str]:
    """Return the `opscore …` lines of a page; in console blocks what follows a `$`."""
    found = []
    for block in page.blocks("console", "bash", "sh"):
        for line in block.code.replace("\\\n", " ").splitlines():
            if block.language == "console" and not line.startswith("$ "):
                continue
            words = shlex.split(line.removeprefix("$ "), comments=True)
            while words and re.fullmatch(r"\w+=.*", words[0]):
                words.pop(0)
            if words[:1] == ["opscore"]:
                ends = [i for i, word in enumerate(words) if word in {"|", "&", "&&", ";", ">"}]
                found.append(shlex.join(words[: ends[0] if ends else None]))
    return found


def refusal(line: str) -> str:
    """Return why the command line would not take `line`, or nothing."""
    # With --help every word is parsed, and nothing is run.
    result = CliRunner(env={"TERM": "dumb"}).invoke(app, [*shlex.split(line)[1:], "--help"])
    return "" if result.exit_code == 0 else result.output
