"""The agent's name when nobody has given one: its title or its module, never its host's."""

from __future__ import annotations

import importlib.machinery
import socket
from types import ModuleType, SimpleNamespace

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette

from opscore_middleware.agent.identity import find_name
from opscore_middleware.agent.settings import Settings


def main_module(file: str | None = None, spec: str | None = None) -> ModuleType:
    """Return a main module as `python file` or `python -m spec` makes it."""
    main = ModuleType("__main__")
    if file is not None:
        main.__file__ = file
    main.__spec__ = None if spec is None else importlib.machinery.ModuleSpec(spec, None)
    return main


UVICORN = main_module("/venv/bin/uvicorn")

NAMES = [
    # how the process was started, its arguments, the name
    (main_module("/srv/research_agent.py"), ["research_agent.py"], "research_agent"),
    (main_module("/x/agents/__main__.py", "agents.__main__"), ["agents"], "agents"),
    (main_module("/x/agents/sum.py", "agents.sum"), ["sum"], "agents.sum"),
    (UVICORN, ["uvicorn", "research.main:app"], "research.main"),
    (UVICORN, ["uvicorn", "--host", "::1", "research.main:app"], "research.main"),
    (UVICORN, ["uvicorn", "--factory", "research:create_app"], "research"),
    (
        main_module("/venv/uvicorn/__main__.py", "uvicorn.__main__"),
        ["/venv/uvicorn/__main__.py", "pkg.mod:app"],
        "pkg.mod",
    ),
    (main_module("/venv/bin/gunicorn"), ["gunicorn", "-b", "localhost:80", "pkg:app"], "pkg"),
    (main_module("/venv/bin/gunicorn"), ["gunicorn", "-b", "0.0.0.0:80", "pkg:app()"], "pkg"),
    (main_module("/venv/bin/gunicorn"), ["gunicorn", "-b", "unix:/run/s", "pkg:app"], "pkg"),
    # A worker that was spawned from `python -m uvicorn pkg.mod:app --workers 4`.
    (main_module(), ["/venv/uvicorn/__main__.py", "pkg.mod:app", "--workers", "4"], "pkg.mod"),
    (main_module("/venv/bin/fastapi"), ["fastapi", "run", "agents/sum.py"], "sum"),
    (main_module("/venv/bin/fastapi"), ["fastapi", "run"], "fastapi"),
    (main_module("/venv/bin/chainlit"), ["chainlit", "run", "agents/sum.py", "-h"], "sum"),
    (main_module("/venv/bin/litestar"), ["litestar", "--app", "pkg.mod:app", "run"], "pkg.mod"),
    (main_module("/venv/bin/quart"), ["quart", "--app", "pkg:app", "run"], "pkg"),
    (main_module("/venv/bin/fastmcp"), ["fastmcp", "run", "tools/sum.py:mcp"], "sum"),
    (main_module("/venv/bin/mcp"), ["mcp", "run", "sum.py"], "sum"),
    (main_module(), [""], "agent"),
]


@pytest.mark.parametrize(("main", "argv", "name"), NAMES)
def test_the_main_module_names_the_agent(main: ModuleType, argv: list[str], name: str) -> None:
    named = find_name(Settings(), None, argv=argv, main=main)
    assert named.name == name
    assert named.source == "the main module"


def test_a_name_that_is_set_wins() -> None:
    named = find_name(Settings(agent_name="mine"), FastAPI(title="theirs"), argv=[], main=UVICORN)
    assert named == ("mine", "set")


def test_the_title_names_the_agent_when_its_author_set_one() -> None:
    named = find_name(Settings(), FastAPI(title="Research\nagent "), argv=[], main=UVICORN)
    assert named == ("Research agent", "the app's title")


@pytest.mark.parametrize(
    "app", [FastAPI(), FastAPI(title=" "), Starlette(), SimpleNamespace(title=5), None]
)
def test_no_title_leaves_the_main_module(app: object) -> None:
    named = find_name(Settings(), app, argv=["uvicorn", "m:app"], main=UVICORN)
    assert named == ("m", "the main module")


def test_the_host_never_names_the_agent() -> None:
    assert socket.gethostname() not in find_name(Settings(), None, argv=[""], main=UVICORN).name


def test_a_title_of_any_length_and_script_can_register() -> None:
    for title in ("x" * 500, "\u202e\u0000\udce9", "研究 🤖"):
        named = find_name(Settings(), FastAPI(title=title), argv=[], main=UVICORN)
        assert 1 <= len(named.name) <= 200
        assert named.name.isprintable()
