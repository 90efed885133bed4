"""The page of settings names every setting, and none that is not one."""

from __future__ import annotations

import inspect
import re
from typing import Final

from opscore_middleware import OpsCoreMiddleware
from opscore_middleware.agent import settings as agent
from opscore_middleware.server.settings import Settings
from tests.docs.pages import ROOT, Page, pages

PAGE: Final = Page(ROOT / "docs" / "configuration.md")
VARIABLE: Final = re.compile(r"\b(?:OPSCORE|AGENTKIT|LOG)_[A-Z_]+[A-Z]\b")


def test_every_argument_of_the_middleware_is_listed() -> None:
    arguments = set(inspect.signature(OpsCoreMiddleware).parameters) - {"app"}
    assert arguments <= set(re.findall(r"^\| `(\w+)`", PAGE.text, re.MULTILINE))


def test_every_variable_of_the_agent_and_the_server_is_listed() -> None:
    fields = Settings.model_fields.items()
    server = {str(field.validation_alias or f"OPSCORE_{name.upper()}") for name, field in fields}
    assert server | set(VARIABLE.findall(inspect.getsource(agent))) <= named_in(PAGE.text)


def test_no_page_names_a_variable_that_the_code_does_not_know() -> None:
    code = [*ROOT.glob("opscore_middleware/**/*.py"), *ROOT.glob("tests/*/*.py")]
    known = {f"OPSCORE_{name.upper()}" for name in Settings.model_fields}
    known |= named_in("".join(path.read_text(encoding="utf-8") for path in code))
    unknown = {page.name: named_in(page.text) - known for page in pages()}
    assert {name: variables for name, variables in unknown.items() if variables} == {}


def named_in(text: str) -> set[str]:
    return set(VARIABLE.findall(text))
