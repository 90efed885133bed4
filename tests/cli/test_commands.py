"""The commands, as they are typed."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from typing import NamedTuple

import pytest
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from opscore_middleware.cli import main
from opscore_middleware.client import OpsCoreClient
from opscore_middleware.core.models import Heartbeat, Registration, StateReport
from opscore_middleware.core.sessions import SessionChange, SessionStart, SessionState
from opscore_middleware.server import Settings, create_app
from tests.agentkit.support import served
from tests.support.clock import MovedClock
from tests.support.processes import (
    OpsCoreProcess,
    clean_environment,
    opscore_command,
    running_opscore,
)
from tests.support.waiting import wait_until


class Done(NamedTuple):
    """What a command left: its exit code and what it printed."""

    returncode: int
    stdout: str
    stderr: str


Opscore = Callable[..., Done]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpsCoreProcess]:
    """Return a running Ops-Core that wants a key."""
    with running_opscore(tmp_path_factory.mktemp("opscore"), key="open-sesame") as process:
        yield process


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Opscore:
    """Return a function that runs `opscore` in this process, as its script does."""

    def command(*arguments: str, **env: str) -> Done:
        for name in ("OPSCORE_API_URL", "OPSCORE_API_KEY"):
            monkeypatch.delenv(name, raising=False)
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["opscore", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return Done(int(ended.value.code or 0), printed.out, printed.err)

    return command


@pytest.fixture
def opscore(run: Opscore, server: OpsCoreProcess) -> Opscore:
    """Return a function that runs `opscore` against the server."""
    return partial(run, OPSCORE_API_URL=server.url, OPSCORE_API_KEY="open-sesame")


def test_an_agents_life_from_the_command_line(opscore: Opscore) -> None:
    done = opscore(
        *("agents", "register", "writer [v2]", "--capability", "write", "--capability", "edit"),
        *("--endpoint", "http://127.0.0.1:9/task"),
    )
    assert done.returncode == 0, done.stderr
    agent_id = done.stdout.strip()

    reported = opscore("report", agent_id, "Active", "--details", '{"note": "writing"}')
    assert (reported.returncode, reported.stdout) == (0, "State update accepted\n")

    listed = opscore("agents", "list", "--state", "active", "--capability", "edit")
    (row,) = [line for line in listed.stdout.splitlines() if agent_id in line]
    assert row.startswith("writer [v2]")
    assert "active" in row
    assert "write, edit" in row

    shown = opscore("agents", "show", agent_id).stdout
    assert '{"note": "writing"}' in shown
    assert "http://127.0.0.1:9/task" in shown

    opscore("report", agent_id, "idle")
    history = opscore("agents", "history", agent_id, "--limit", "1")
    assert "idle" in history.stdout
    assert "active" not in history.stdout


def test_programs_get_json(opscore: Opscore) -> None:
    registered = json.loads(opscore("agents", "register", "reader", "--json").stdout)
    agent_id = registered["agentId"]
    assert json.loads(opscore("report", agent_id, "idle", "--json").stdout)["status"] == "success"
    (listed,) = json.loads(opscore("agents", "list", "--name", "reader", "--json").stdout)
    shown = json.loads(opscore("agents", "show", agent_id, "--json").stdout)
    assert listed == shown
    assert shown["state"] == "idle"
    (transition,) = json.loads(opscore("agents", "history", agent_id, "--json").stdout)
    assert transition["state"] == "idle"


def test_a_list_without_agents_says_so(opscore: Opscore) -> None:
    done = opscore("agents", "list", "--name", "nobody")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "No agents.\n")
    assert json.loads(opscore("agents", "list", "--name", "nobody", "--json").stdout) == []


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_what_the_output_has_no_letters_for_is_spelled_out(
    opscore: Opscore, server: OpsCoreProcess, options: tuple[str, ...]
) -> None:
    registered(opscore, "regen \N{UMBRELLA} ä \N{CLOSED UMBRELLA}")
    done = subprocess.run(
        [*opscore_command(), "agents", "list", *options],
        env=clean_environment(
            OPSCORE_API_URL=server.url, OPSCORE_API_KEY="open-sesame", PYTHONIOENCODING="latin-1"
        ),
        capture_output=True,
        encoding="latin-1",
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert r"regen \u2602 ä \ud83c\udf02" in done.stdout
    if options:
        names = {agent["agentName"] for agent in json.loads(done.stdout)}
        assert "regen \N{UMBRELLA} ä \N{CLOSED UMBRELLA}" in names


def test_an_answer_steers_no_terminal(run: Opscore) -> None:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await JSONResponse({"detail": "red \x1b[31m\r"}, 400)(scope, receive, send)

    with served(answer) as url:
        done = run("fleet", OPSCORE_API_URL=url)
    assert done.stderr.endswith(" answered 400: red \\x1b[31m\\r\n")


def registered(opscore: Opscore, name: str) -> str:
    """Register an agent and return its id."""
    return opscore("agents", "register", name).stdout.strip()


@pytest.mark.parametrize("options", [(), ("--yes",)])
def test_an_agent_is_taken_out_without_a_question_where_nobody_can_answer(
    opscore: Opscore, options: tuple[str, ...]
) -> None:
    agent_id = registered(opscore, "leaver")
    done = opscore("agents", "deregister", agent_id, *options)
    assert (done.returncode, done.stdout) == (0, f"{agent_id} is deregistered.\n")
    assert "deregistered" in opscore("agents", "show", agent_id).stderr


class Terminal(io.StringIO):
    """What somebody types."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 1), ("\n", 1)])
def test_on_a_terminal_an_agent_is_taken_out_after_a_question(
    opscore: Opscore, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    agent_id = registered(opscore, "leaver")
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    done = opscore("agents", "deregister", agent_id)
    assert done.returncode == code
    assert "Take out 'leaver', which is UNKNOWN?" in done.stdout
    assert opscore("agents", "show", agent_id).returncode == 1 - code


def test_sessions_are_listed_and_shown(opscore: Opscore, server: OpsCoreProcess) -> None:
    agent_id = registered(opscore, "worker")
    assert opscore("session", "list", "--agent", agent_id).stderr == "No sessions.\n"
    with OpsCoreClient(server.url, server.api_key) as client:
        first, second = (
            client.start_session(SessionStart(agent_id=agent_id, workflow_id=name)).session_id
            for name in ("digest", "report")
        )
        change = SessionChange(state=SessionState.COMPLETED, result={"pages": 3})
        client.update_session(first, change)
    listed = opscore("session", "list", "--agent", agent_id).stdout
    assert listed.index(second) < listed.index(first)
    done = opscore("session", "list", "--agent", agent_id, "--state", "completed").stdout
    assert first in done
    assert second not in done
    assert second in opscore("session", "list", "--agent", agent_id, "--limit", "1").stdout
    shown = opscore("session", "show", first).stdout
    for words in (first, "completed", "digest", agent_id, '{"pages": 3}'):
        assert words in shown
    as_json = json.loads(opscore("session", "show", first, "--json").stdout)
    assert as_json.pop("progress") is None
    assert as_json in json.loads(opscore("session", "list", "--json").stdout)


def test_what_was_called_sessions_still_is(opscore: Opscore) -> None:
    agent_id = registered(opscore, "loafer")
    for name in ("session", "sessions"):
        assert opscore(name, "list", "--agent", agent_id).stderr == "No sessions.\n"
    assert "  sessions" not in opscore("--help").stdout


def test_an_agent_that_vanished_is_shown_as_lost(run: Opscore) -> None:
    clock = MovedClock()

    settings = Settings.resolve(database_url="sqlite:///:memory:")
    with (
        served(create_app(settings, clock=clock, pause=clock.listen)) as url,
        OpsCoreClient(url) as client,
    ):
        agent_id = client.register_agent(Registration(agent_name="ghost")).agent_id
        beat = Heartbeat(instance_id="i", state="active", sequence=1, interval_seconds=60)
        client.heartbeat(agent_id, beat)
        client.report_state(
            StateReport(
                agent_id=agent_id, state="active", timestamp=datetime.now(UTC), instance_id="i"
            )
        )
        wait_until(lambda: client.get_agent(agent_id).lost)
        listed = run("agents", "list", OPSCORE_API_URL=url).stdout
        shown = run("agents", "show", agent_id, OPSCORE_API_URL=url).stdout
    assert "active (lost)" in listed
    assert shown.count("active (lost)") == 2


def test_the_options_beat_the_environment(run: Opscore, server: OpsCoreProcess) -> None:
    done = run(
        *("agents", "list", "--api-url", f"{server.url}/v1", "--api-key", "open-sesame"),
        OPSCORE_API_URL="http://127.0.0.1:1",
        OPSCORE_API_KEY="wrong",
    )
    assert done.returncode == 0, done.stderr


REFUSED = {
    "an agent that nobody knows": (("agents", "show", "nobody"), 1, "'nobody'"),
    "taking out whom nobody knows": (("agents", "deregister", "nobody"), 1, "'nobody'"),
    "a session that nobody started": (("session", "show", "none"), 1, "'none'"),
    "a session state that is none": (("session", "list", "--state", "over"), 2, "'over'"),
    "a state that nobody may report": (("report", "nobody", "asleep"), 1, "'asleep'"),
    "a wrong key": (("agents", "list", "--api-key", "wrong-key"), 1, "401"),
    "nobody there": (("agents", "list", "--api-url", "http://127.0.0.1:1"), 1, "opscore serve"),
    "an address that is none": (("agents", "list", "--api-url", "nowhere"), 2, "'nowhere'"),
    "a host with a part that is too long": (
        *(("agents", "list", "--api-url", f"http://{'a' * 64}/"), 2),
        "not an http or https address",
    ),
    "a host with an empty part": (("agents", "list", "--api-url", "http://.a/"), 2, "'http://.a/'"),
    "an id that is no text": (("agents", "show", "\udc80"), 1, "No agent with id"),
    "a task that is no text": (("task", "why", "\udc80"), 1, "404"),
    "details that are no text": (
        ("report", "a", "idle", "--details", r'{"a":"\ud800"}'),
        2,
        "JSON",
    ),
    "a key that cannot travel": (("agents", "list", "--api-key", "a\nb"), 2, "api_key"),
    "details that are no JSON": (("report", "a", "idle", "--details", "{"), 2, "--details"),
    "details that are no object": (("report", "a", "idle", "--details", "[]"), 2, "--details"),
    "an id with a slash": (("report", "a/b", "idle"), 2, "'a/b'"),
    "an id that is a step in a path": (("report", "..", "idle"), 2, "more than dots"),
    "an id that nobody can have": (("agents", "show", ".."), 1, "id '..'"),
    "an endpoint that is none": (("agents", "register", "a", "--endpoint", "x"), 2, "'x'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_goes_wrong_is_one_clear_line(opscore: Opscore, case: str) -> None:
    arguments, code, words = REFUSED[case]
    done = opscore(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert "wrong-key" not in done.stderr


@pytest.mark.parametrize(
    "arguments", [("agents", "show"), ("agents", "history", "a", "--limit", "x")]
)
def test_a_command_that_is_typed_wrong_points_to_its_help(
    run: Opscore, arguments: tuple[str, ...]
) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "--help" in done.stderr
    assert "Error: " in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "serve",
        "report",
        *(f"agents {name}" for name in ("list", "show", "history", "register", "deregister")),
        *(f"workflow {name}" for name in ("validate", "put", "list", "show", "run")),
        *(
            f"session {name}"
            for name in ("list", "show", "cancel", "pause", "resume", "retry", "watch")
        ),
        *(f"task {name}" for name in ("list", "show", "why", "cancel", "retry", "dead")),
    ],
)
def test_the_help_of_every_command_shows_an_example(run: Opscore, command: str) -> None:
    done = run(*command.split(), "--help")
    assert done.returncode == 0
    assert "Example" in done.stdout
    assert f"  opscore {command}" in done.stdout


def test_the_installed_command_says_its_version() -> None:
    done = subprocess.run(
        [*opscore_command(), "--version"],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout == f"opscore {version('opscore-middleware')}\n"
