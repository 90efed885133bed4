"""Which integrations are on, and what they do where they cannot attach."""

from __future__ import annotations

import importlib.metadata
import itertools
import sys
import types
from typing import Any

import pytest

from opscore_middleware import ConfigurationError, Integration, OpsCoreMiddleware
from opscore_middleware.agent.integrations import choice
from opscore_middleware.agent.integrations.choice import GROUP, Choice
from opscore_middleware.agent.integrations.wrapping import (
    require_version,
    wrap_method,
    wrap_overrides,
)
from tests.agent.desk import ours

_numbers = itertools.count()


class Own:
    """An integration of somebody's, for a framework that is in use."""

    module = "json"
    attached = 0

    def __init__(self, name: str | None = None, module: str = "json") -> None:
        self.name = name or f"own-{next(_numbers)}"
        self.module = module

    def attach(self, open_unit: Any) -> None:
        self.attached += 1


async def app(scope: Any, receive: Any, send: Any) -> None:
    raise NotImplementedError


@pytest.fixture(autouse=True)
def _a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_attached", {})
    monkeypatch.setattr(choice, "BUNDLED", (Own("a"), Own("b"), Own("idle", "no.such.module")))


@pytest.mark.parametrize(
    ("given", "on"),
    [
        ((), {"a", "b"}),
        (("-a",), {"b"}),
        (("-*",), set()),
        (("-*", "b"), {"b"}),
        (("-a", "a"), {"a", "b"}),
        (("*", "-b"), {"a"}),
        (("idle",), {"a", "b"}),
    ],
)
def test_all_are_on_whose_framework_is_in_use_but_those_switched_off(
    given: tuple[str, ...], on: set[str]
) -> None:
    assert Choice(given).attach() == on


def test_one_of_ones_own_attaches_once_and_before_a_bundled_one_of_its_name() -> None:
    own = Own("a")
    assert isinstance(own, Integration)
    for _ in range(2):
        assert Choice(["-*", own]).attach() == {"a"}
    assert own.attached == 1


def test_the_environment_names_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSCORE_INTEGRATIONS", "-a, -b")
    own = Own()
    assert Choice(OpsCoreMiddleware(app)._runtime.settings.integrations).attach() == set()
    middleware = OpsCoreMiddleware(app, integrations=[own])
    assert Choice(middleware._runtime.settings.integrations).attach() == {"a", "b", own.name}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["-c"], "names 'c', which is none; there are: a, b, idle."),
        (["c"], "names 'c'"),
        ([Own], "holds <class"),
        ([3], "holds 3"),
        ("-a", "must be a list"),
        (3, "must be a list"),
    ],
)
def test_a_mistake_is_named_when_the_agent_is_made(given: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        OpsCoreMiddleware(app, integrations=given)
    assert said in refused.value.message


def test_one_that_cannot_attach_is_told_of_once_and_hurts_nobody(
    log: pytest.LogCaptureFixture,
) -> None:
    class Broken(Own):
        def attach(self, open_unit: Any) -> None:
            require_version("pytest", 1, 2)

    broken = Broken()
    for _ in range(2):
        assert Choice([broken]).attach() == {"a", "b"}
    (told,) = ours(log)
    assert f"{broken.name!r} is not attached" in told
    assert "made for pytest 1.x and 2.x" in told


# --- of other packages ---------------------------------------------------------------------------


class Brought(Own):
    """What an entry point points to."""

    def __init__(self) -> None:
        super().__init__("brought")


def brought(monkeypatch: pytest.MonkeyPatch, **targets: str) -> None:
    points = importlib.metadata.EntryPoints(
        importlib.metadata.EntryPoint(name, target, GROUP) for name, target in targets.items()
    )
    monkeypatch.setattr(choice, "_POINTS", points)


def test_another_package_brings_one(monkeypatch: pytest.MonkeyPatch) -> None:
    brought(monkeypatch, brought=f"{__name__}:Brought")
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Brought.__module__])
    assert Choice().attach() == {"a", "b", "brought"}
    assert Choice(["-brought"]).attach() == {"a", "b"}


def test_one_that_cannot_be_loaded_hurts_nobody(
    monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    brought(monkeypatch, gone="no.such.module:Gone")
    assert Choice().attach() == {"a", "b"}
    assert "'gone' is not attached" in ours(log)[0]
    assert Choice(["-*", "gone"]).attach() == set()


# --- wrapping ------------------------------------------------------------------------------------


class Base:
    """A framework's class that users derive theirs from."""

    derived: tuple[str, ...] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        Base.derived = (*Base.derived, cls.__name__)

    async def run(self) -> str:
        return "base"


class Early(Base):
    """One that was there before."""

    async def run(self) -> str:
        return "early"


@pytest.mark.anyio
async def test_overrides_are_wrapped_whenever_they_are_made() -> None:
    async def around(method: Any, *args: Any) -> str:
        return f"<{await method(*args)}>"

    wrap_overrides(Base, "run", around)

    class Late(Early):
        async def run(self) -> str:
            return f"late {await super().run()}"

    class Same(Base):
        pass

    assert await Early().run() == "<early>"
    assert await Late().run() == "<late <early>>"
    assert await Same().run() == "base"
    assert Base.derived[-2:] == ("Late", "Same")  # what the framework does itself goes on


@pytest.mark.anyio
async def test_functions_are_wrapped_in_classes_and_in_modules() -> None:
    async def paint(what: str) -> str:
        return what

    async def around(method: Any, *args: Any) -> str:
        return f"<{await method(*args)}>"

    studio = types.ModuleType("studio")
    studio.paint = paint  # type: ignore[attr-defined]
    painter = type("Painter", (), {"paint": staticmethod(paint)})
    for owner in (studio, painter):
        wrap_method(owner, "paint", ("what",), around)
        assert await owner.paint("sky") == "<sky>"  # type: ignore[attr-defined]
    assert await painter().paint("sky") == "<sky>"
    with pytest.raises(ConfigurationError):
        wrap_method(studio, "paint", ("where",), around)


def test_versions_are_known_by_what_they_begin_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.16.7")
    for known in ((0,), ("0.16",), ("0.15", "0.16")):
        require_version("painter", *known)
    for unknown in ((1,), ("0.1",), ("0.160",)):
        with pytest.raises(ConfigurationError):
            require_version("painter", *unknown)


def test_a_method_that_is_not_as_it_was_known_is_left_alone() -> None:
    async def around(method: Any, *args: Any) -> None:
        raise NotImplementedError

    before = Own.__dict__["attach"]
    with pytest.raises(ConfigurationError) as refused:
        wrap_method(Own, "attach", ("self", "door"), around)
    assert refused.value.message == "Own.attach takes self, open_unit and not self, door"
    assert Own.__dict__["attach"] is before
