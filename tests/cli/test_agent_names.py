"""Commands take agents by their names as well, and say which there are where that is not enough."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from opscore_middleware.cli import main
from opscore_middleware.client import OpsCoreClient
from opscore_middleware.core.models import Heartbeat, Registration, StateReport
from opscore_middleware.core.runs.views import WorkflowStart
from opscore_middleware.server import Settings, create_app
from tests.agentkit.support import served

LONG = "n" * 120


class Done(str):
    """What a command printed, and its exit code."""

    code: int


Opscore = Callable[..., Done]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Where an Ops-Core is."""
    with served(create_app(Settings.resolve(database_url="sqlite:///:memory:"))) as url:
        yield url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[OpsCoreClient]:
    """A client of it."""
    with OpsCoreClient(url) as client:
        yield client


@pytest.fixture(scope="module")
def agent_id(client: OpsCoreClient) -> str:
    """An agent named `painter` with a session, and two named `twin`."""
    for twin in ("twin-1", "twin-2"):
        client.register_agent(Registration(agent_id=twin, agent_name="twin"))
    agent_id = client.register_agent(Registration(agent_name="painter")).agent_id
    report(client, agent_id)
    tasks = [{"taskId": "a", "name": "A"}]
    definition = {"id": "paint", "name": "Paint", "tasks": tasks}
    client.start_workflow(agent_id, WorkflowStart(workflow_definition=definition))
    return agent_id


def report(client: OpsCoreClient, agent_id: str) -> None:
    now = datetime.now(UTC)
    client.report_state(StateReport(agent_id=agent_id, state="active", timestamp=now))


@pytest.fixture
def opscore(
    url: str, agent_id: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Opscore:
    """Return a function that runs `opscore`, as its script does."""
    monkeypatch.setenv("OPSCORE_API_URL", url)
    monkeypatch.delenv("OPSCORE_API_KEY", raising=False)

    def command(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["opscore", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        done = Done(printed.out + printed.err)
        done.code = int(ended.value.code or 0)
        return done

    return command


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("agents", "show", "painter"), "active"),
        (("agents", "history", "painter"), "active"),
        (("session", "list", "--agent", "painter"), "paint"),
        (("task", "list", "--agent", "painter"), "ready"),
        (("task", "dead", "--agent", "painter"), "No tasks."),
        (("report", "painter", "active"), "accepted"),
    ],
)
def test_an_agent_is_found_by_its_name(
    opscore: Opscore, arguments: tuple[str, ...], told: str
) -> None:
    done = opscore(*arguments)
    assert done.code == 0, done
    assert told in done


def test_a_workflow_is_run_for_an_agent_by_its_name(opscore: Opscore, agent_id: str) -> None:
    session_id = opscore("workflow", "run", "paint", "--agent", "painter").strip()
    shown = json.loads(opscore("session", "show", session_id, "--json"))
    assert shown["agentId"] == agent_id


@pytest.mark.parametrize(
    "arguments",
    [
        ("agents", "show", "twin"),
        ("agents", "deregister", "twin", "--yes"),
        ("session", "list", "--agent", "twin"),
        ("report", "twin", "idle"),
        ("watch", "--agent", "twin"),
    ],
)
def test_a_name_that_several_have_is_refused_with_their_ids(
    opscore: Opscore, arguments: tuple[str, ...]
) -> None:
    done = opscore(*arguments)
    assert done.code == 2
    assert done == (
        "opscore: 2 agents are named 'twin'; name the one that you mean by its id: "
        "twin-1 (UNKNOWN), twin-2 (UNKNOWN).\n"
    )


@pytest.mark.parametrize(
    "arguments", [("task", "list", "--agent", "pianter"), ("report", "pianter", "idle")]
)
def test_whom_nobody_knows_is_refused_and_not_listed_as_nothing(
    opscore: Opscore, arguments: tuple[str, ...]
) -> None:
    done = opscore(*arguments)
    assert done.code == 1
    assert "'pianter'" in done
    assert done.count("\n") == 1


def test_an_agent_that_was_taken_out_is_still_found_by_its_id(
    opscore: Opscore, client: OpsCoreClient
) -> None:
    client.register_agent(Registration(agent_id="gone", agent_name="gone"))
    client.deregister_agent("gone")
    assert opscore("session", "list", "--agent", "gone") == "No sessions.\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("workflow", "run", "paint", "--agent", "painter", "--run-at", "2026-01-31T12:00:00"),
            "opscore: --run-at '2026-01-31T12:00:00': ",
        ),
        (("task", "list", "--state", "over"), "opscore: --state 'over': "),
        (("agents", "register", "x", "--endpoint", "y"), "opscore: --endpoint 'y': "),
        (("agents", "register", ""), "opscore: agent_name '': "),
    ],
)
def test_a_value_that_cannot_be_is_told_by_its_option(
    opscore: Opscore, arguments: tuple[str, ...], told: str
) -> None:
    done = opscore(*arguments)
    assert done.code == 2
    assert done.startswith(told)


def test_the_fleet_is_not_broken_into_lines_in_a_pipe(
    opscore: Opscore, client: OpsCoreClient
) -> None:
    agent_id = client.register_agent(Registration(agent_name=LONG)).agent_id
    beat = Heartbeat(instance_id="i", state="active", sequence=1, interval_seconds=60)
    report(client, agent_id)
    client.heartbeat(agent_id, beat)
    fleet = opscore("fleet")
    assert f"longest silent: {LONG}, instance i, heard of " in fleet
