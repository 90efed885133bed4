"""Workflows from the command line, done by real agents that a real Ops-Core sends them to."""

from __future__ import annotations

import io
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from opscore_middleware.cli import main
from opscore_middleware.client import OpsCoreClient
from opscore_middleware.core.models import Registration
from opscore_middleware.core.runs.views import WorkflowStart
from tests.support.processes import (
    OpsCoreProcess,
    clean_environment,
    opscore_command,
    running_opscore,
)
from tests.support.waiting import TIMEOUT, wait_until
from tests.support.working_agents import working_agent

DIGEST = """\
id: digest
name: Digest
tasks:
  - {taskId: find, name: find, agentCapability: find}
  - taskId: read
    name: read
    agentCapability: read
    dependsOn: [find]
    forEach: tasks.find.result
    parameters: {page: "{{ item }}", of: "{{ initialPayload.topic }}"}
  - {taskId: join, name: join, agentCapability: find, dependsOn: [read],
     parameters: {texts: "{{ tasks.read.result }}"}}
"""
FRAGILE = {
    "id": "fragile",
    "name": "Fragile",
    "tasks": [
        {
            "taskId": "only",
            "name": "break",
            "agentCapability": "break",
            "retry": {"maximumAttempts": 1},
        }
    ],
}
LONELY = {
    "id": "lonely",
    "name": "Lonely",
    "tasks": [{"taskId": "wait", "name": "wait", "agentCapability": "nobody-can"}],
}


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
def client(server: OpsCoreProcess) -> Iterator[OpsCoreClient]:
    """Return a client of it."""
    with OpsCoreClient(server.url, server.api_key) as client:
        yield client


@pytest.fixture
def opscore(
    server: OpsCoreProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Opscore:
    """Return a function that runs `opscore` against the server, as its script does."""
    monkeypatch.setenv("OPSCORE_API_URL", server.url)
    monkeypatch.setenv("OPSCORE_API_KEY", "open-sesame")

    def command(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["opscore", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return Done(int(ended.value.code or 0), printed.out, printed.err)

    return command


def write(tmp_path: Path, definition: dict[str, Any]) -> str:
    """Return the name of a file with a definition."""
    file = tmp_path / f"{definition['id']}.json"
    file.write_text(json.dumps(definition))
    return str(file)


def find_and_read(name: str, parameters: Any) -> Any:
    """Do what the digest asks for."""
    match name:
        case "find":
            return ["one", "two"]
        case "read":
            return f"{parameters['page']} of {parameters['of']}"
    return " and ".join(parameters["texts"])


def test_a_workflow_from_its_file_to_its_result(
    opscore: Opscore, client: OpsCoreClient, tmp_path: Path
) -> None:
    file = tmp_path / "digest.yaml"
    file.write_text(DIGEST)
    assert opscore("workflow", "put", str(file)).stdout == "digest is kept as version 1.\n"
    assert opscore("workflow", "put", str(file)).stdout == "digest is kept as version 1.\n"
    assert "digest  1        Digest" in opscore("workflow", "list").stdout
    shown = opscore("workflow", "show", "digest").stdout
    assert "join  join  find  read" in shown

    with working_agent(client, "digester", "find", "read", do=find_and_read) as agent_id:
        payload = json.dumps({"topic": "rain"})
        done = opscore(
            *("workflow", "run", "digest", "--agent", agent_id, "--payload", payload, "--watch")
        )
    assert done.returncode == 0, done.stderr
    session_id, *told = done.stdout.splitlines()
    assert told[-1] == "session: completed"
    assert {"find: completed", "read[1]: completed", "join: completed"} <= set(told)

    session = opscore("session", "show", session_id).stdout
    assert '"join": "one of rain and two of rain"' in session
    assert "read[0]  completed" in session
    assert opscore("session", "watch", session_id).returncode == 0
    listed = json.loads(opscore("task", "list", "--session", session_id, "--json").stdout)
    assert len(listed) == 5
    (item,) = [task for task in listed if task["item"] == 1]
    assert '"two of rain"' in opscore("task", "show", item["taskId"]).stdout
    assert "completed" in opscore("task", "why", item["taskId"]).stdout
    assert "completed" in opscore("session", "cancel", session_id).stderr


def test_what_is_over_is_told_with_the_command_that_has_it_go_on(
    opscore: Opscore, client: OpsCoreClient, tmp_path: Path
) -> None:
    agent_id = client.register_agent(Registration(agent_name="host")).agent_id
    session_id = opscore(
        *("workflow", "run", write(tmp_path, LONELY), "--agent", agent_id)
    ).stdout.strip()
    told = opscore("session", "retry", session_id).stderr
    assert "`opscore task retry {taskId}`" in told
    assert f"POST /v1/opscore/sessions/{session_id}/retry answered 409" in told
    client.cancel_session(session_id)
    told = opscore("session", "pause", session_id).stderr
    assert f"`opscore session retry {session_id}` has it go on" in told


def test_a_definition_in_a_file_runs_as_it_is(
    opscore: Opscore, client: OpsCoreClient, tmp_path: Path
) -> None:
    file = tmp_path / "other.yaml"
    file.write_text(DIGEST.replace("id: digest", "id: other"))
    with working_agent(client, "digester", "find", "read", do=find_and_read) as agent_id:
        payload = '{"topic": "sun"}'
        done = opscore("workflow", "run", str(file), "--agent", agent_id, "--payload", payload)
        session_id = done.stdout.strip()
        assert opscore("session", "watch", session_id).returncode == 0
    shown = json.loads(opscore("session", "show", session_id, "--json").stdout)
    assert (shown["workflowId"], shown["workflowVersion"]) == ("other", 1)
    assert shown["initialPayload"] == {"topic": "sun"}
    assert (shown["progress"]["total"], shown["progress"]["completed"]) == (4, 4)


def test_a_session_is_watched_by_programs(
    opscore: Opscore, client: OpsCoreClient, tmp_path: Path
) -> None:
    file = tmp_path / "watched.yaml"
    file.write_text(DIGEST.replace("id: digest", "id: watched"))
    with working_agent(client, "digester", "find", "read", do=find_and_read) as agent_id:
        done = opscore(
            *("workflow", "run", str(file), "--agent", agent_id, "--payload", '{"topic": "sun"}')
        )
        watched = opscore("session", "watch", done.stdout.strip(), "--json")
    assert (watched.returncode, watched.stderr) == (0, "")
    told = [json.loads(line) for line in watched.stdout.splitlines()]
    tasks = {one["taskId"]: one for one in told if "taskId" in one}
    assert {(task["node"], task["item"], task["state"]) for task in tasks.values()} == {
        *(("find", None, "completed"), ("read", None, "completed"), ("join", None, "completed")),
        *(("read", 0, "completed"), ("read", 1, "completed")),
    }
    assert (told[-1]["sessionId"], told[-1]["state"]) == (done.stdout.strip(), "completed")
    assert told[-1]["result"]["join"] == "one of sun and two of sun"


def test_what_failed_is_dead_until_it_is_tried_again(
    opscore: Opscore, client: OpsCoreClient, tmp_path: Path
) -> None:
    breaking = [True]

    def do(_name: str, _parameters: Any) -> str:
        if breaking[0]:
            raise ValueError("out of quota\x1b[2J")
        return "done"

    with working_agent(client, "breaker", "break", do=do) as agent_id:
        done = opscore(
            *("workflow", "run", write(tmp_path, FRAGILE), "--agent", agent_id, "--watch"),
        )
        assert done.returncode == 1
        session_id, *told = done.stdout.splitlines()
        assert told[-2:] == ["session: failed", r"Task 'only' failed. out of quota\x1b[2J"]
        assert "only: failed" in told
        (task,) = json.loads(opscore("task", "dead", "--agent", agent_id, "--json").stdout)
        assert "out of quota" in opscore("task", "show", task["taskId"]).stdout
        assert r"out of quota\x1b[2J" in opscore("task", "why", task["taskId"]).stdout
        assert task["taskId"] in opscore("task", "dead", "--capability", "break").stdout

        retried = opscore("session", "retry", session_id)
        assert (retried.returncode, retried.stdout) == (0, f"{session_id} is running.\n")
        assert opscore("session", "watch", session_id).returncode == 1
        assert opscore("task", "retry", task["taskId"]).returncode == 0
        assert opscore("session", "watch", session_id).returncode == 1

        breaking[0] = False
        some = opscore("task", "dead", "--replay", "--capability", "other")
        assert (some.returncode, some.stdout) == (2, "")
        assert "takes no --agent or --capability" in some.stderr
        assert opscore("task", "dead", "--replay").stdout == "Tasks that are tried again: 1.\n"
        assert opscore("session", "watch", session_id).returncode == 0
    assert opscore("task", "dead").stderr == "No tasks.\n"


def test_a_session_is_paused_and_resumed_and_its_tasks_cancelled(
    opscore: Opscore, client: OpsCoreClient, tmp_path: Path
) -> None:
    agent_id = client.register_agent(Registration(agent_name="host")).agent_id
    session_id = opscore(
        *("workflow", "run", write(tmp_path, LONELY), "--agent", agent_id)
    ).stdout.strip()
    (task,) = json.loads(opscore("task", "list", "--session", session_id, "--json").stdout)
    task_id = task["taskId"]
    why = opscore("task", "why", task_id).stdout
    assert why.startswith("No agent has capability 'nobody-can'")
    assert json.loads(opscore("task", "why", task_id, "--json").stdout)["why"] == why.strip()

    assert opscore("session", "pause", session_id).stdout == f"{session_id} is paused.\n"
    assert "paused" in opscore("task", "why", task_id).stdout
    assert opscore("session", "resume", session_id).stdout == f"{session_id} is started.\n"
    cancelled = opscore("task", "cancel", task_id)
    assert cancelled.stdout == f"{task_id} is cancelled.\n"
    wait_until(lambda: client.get_session(session_id).state == "failed")
    refused = opscore("session", "pause", session_id)
    assert refused.returncode == 1
    assert "failed" in refused.stderr


def test_on_a_terminal_a_session_is_drawn(
    opscore: Opscore, client: OpsCoreClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")

    def do(_name: str, _parameters: Any) -> Any:
        raise ValueError("out of quota")

    with working_agent(client, "drawn", "break", do=do) as agent_id:
        file = write(tmp_path, {**FRAGILE, "id": "drawn"})
        done = opscore("workflow", "run", file, "--agent", agent_id, "--watch")
    assert done.returncode == 1
    drawn = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", done.stdout)
    assert "failed  1 of 1 tasks are over" in drawn
    assert re.search(rf"only +failed +{agent_id} +1 ", drawn)
    assert "Task 'only' failed. out of quota" in drawn


def test_ctrl_c_ends_the_watching_and_not_the_session(
    client: OpsCoreClient, server: OpsCoreProcess
) -> None:
    agent_id = client.register_agent(Registration(agent_name="host")).agent_id
    start = WorkflowStart(workflow_definition=LONELY)
    session_id = client.start_workflow(agent_id, start).session_id
    process = subprocess.Popen(
        [*opscore_command(), "session", "watch", session_id],
        env=clean_environment(OPSCORE_API_URL=server.url, OPSCORE_API_KEY="open-sesame"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == [
            "wait: ready\n",
            "session: started\n",
        ]
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=TIMEOUT) == ("", "")
        assert process.returncode == 1
    finally:
        process.kill()
        process.communicate()
    assert client.cancel_session(session_id).state == "cancelled"


def test_watching_a_session_goes_on_after_an_outage(tmp_path: Path) -> None:
    with (
        running_opscore(tmp_path) as server,
        OpsCoreClient(server.url) as client,
    ):
        agent_id = client.register_agent(Registration(agent_name="host")).agent_id
        start = WorkflowStart(workflow_definition=LONELY)
        session_id = client.start_workflow(agent_id, start).session_id
        process = subprocess.Popen(
            [*opscore_command(), "session", "watch", session_id],
            env=clean_environment(OPSCORE_API_URL=server.url),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "wait: ready\n"
            server.stop()
            _answer_nobody(server.url, times=3)
            server.restart()
            client.cancel_session(session_id)
            out, err = process.communicate(timeout=TIMEOUT)
        finally:
            process.kill()
            process.communicate()
    assert out.splitlines()[-2:] == ["wait: cancelled", "session: cancelled"]
    assert process.returncode == 1
    [told] = err.splitlines()
    assert "no answer from Ops-Core" in told


def _answer_nobody(url: str, *, times: int) -> None:
    """Stand where a server stood, and hang up on so many connections."""
    with socket.create_server(("127.0.0.1", int(url.rpartition(":")[2]))) as listener:
        listener.settimeout(TIMEOUT)
        for _ in range(times):
            listener.accept()[0].close()


class Terminal(io.StringIO):
    """What somebody types."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 1)])
def test_on_a_terminal_a_session_is_cancelled_after_a_question(
    opscore: Opscore,
    client: OpsCoreClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    code: int,
) -> None:
    agent_id = client.register_agent(Registration(agent_name="host")).agent_id
    file = write(tmp_path, LONELY)
    session_id = opscore("workflow", "run", file, "--agent", agent_id).stdout.strip()
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    done = opscore("session", "cancel", session_id)
    assert done.returncode == code
    assert f"Cancel '{session_id}', which is started?" in done.stdout
    assert (client.get_session(session_id).state == "cancelled") is (code == 0)
    client.cancel_session(session_id)


REFUSED = {
    "a workflow that is not kept, and what lists those that are": (
        *(("workflow", "show", "nothing"), 1, "`opscore workflow list` lists the ones that are"),
    ),
    "a session that nobody started, and what lists those that were": (
        *(("session", "show", "none"), 1, "`opscore session list` lists the ones that were."),
    ),
    "a task that nobody made, and what lists those that were": (
        *(("task", "why", "none"), 1, "`opscore task list` lists the ones that were."),
    ),
    "an agent that nobody registered, and what registers one": (
        *(("agents", "show", "none"), 1, "`opscore agents register` registers one."),
    ),
    "a workflow that is not kept": (("workflow", "show", "nothing"), 1, "'nothing'"),
    "a run of one that is not kept": (
        *(("workflow", "run", "nothing", "--agent", "host"), 1, "'nothing'"),
    ),
    "a payload that is none": (
        *(("workflow", "run", "x", "--agent", "a", "--payload", "[]"), 2, "--payload"),
    ),
    "a start without an offset": (
        ("workflow", "run", "x", "--agent", "a", "--run-at", "2026-01-31T12:00:00"),
        *(2, "--run-at"),
    ),
    "a task that nobody made": (("task", "show", "none"), 1, "'none'"),
    "the reason of none": (("task", "why", "none"), 1, "'none'"),
    "a task state that is none": (("task", "list", "--state", "over"), 2, "'over'"),
    "a session that nobody started": (("session", "watch", "none"), 1, "'none'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_goes_wrong_is_one_clear_line(
    opscore: Opscore, client: OpsCoreClient, case: str
) -> None:
    client.register_agent(Registration(agent_id="host", agent_name="named host"))
    arguments, code, words = REFUSED[case]
    done = opscore(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_lists_without_anything_say_so(opscore: Opscore) -> None:
    assert opscore("task", "list", "--capability", "none").stderr == "No tasks.\n"
    assert json.loads(opscore("task", "list", "--capability", "none", "--json").stdout) == []
