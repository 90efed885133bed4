"""Tasks given to agents, all of them processes, and what becomes of work when some are killed."""

from __future__ import annotations

import signal
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from opscore_middleware.client import OpsCoreClient
from opscore_middleware.core.models import AgentQuery
from opscore_middleware.core.runs.tasks import TaskState
from opscore_middleware.core.runs.views import TaskQuery, TaskView, WorkflowStart
from opscore_middleware.core.sessions import TERMINAL, SessionState
from tests.e2e.processes import AgentProcess, running_agent
from tests.support.processes import OpsCoreProcess, running_opscore
from tests.support.waiting import wait_until

KEY: Final = "e2e-k3y"
PATIENCE: Final = 60.0

NUMBERS: Final = {
    "id": "numbers",
    "name": "Add up, twice side by side, and once more",
    "tasks": [
        {
            "taskId": "first",
            "name": "First",
            "agentCapability": "add",
            "parameters": {"numbers": "{{ initialPayload.numbers }}"},
        },
        *(
            {
                "taskId": side,
                "name": side.title(),
                "agentCapability": "add",
                "dependsOn": ["first"],
                "parameters": {"numbers": ["{{ tasks.first.result.sum }}", more]},
            }
            for side, more in (("left", 10), ("right", 20))
        ),
        {
            "taskId": "last",
            "name": "Last",
            "agentCapability": "add",
            "dependsOn": ["left", "right"],
            "parameters": {
                "numbers": ["{{ tasks.left.result.sum }}", "{{ tasks.right.result.sum }}"]
            },
        },
    ],
}


class Company:
    """An Ops-Core and its agents; `done` holds what these wrote down."""

    def __init__(self, opscore: OpsCoreProcess, directory: Path, stack: ExitStack) -> None:
        self.opscore = opscore
        self.client = stack.enter_context(OpsCoreClient(opscore.url, KEY))
        self.go_on = directory / "go-on"
        self._done = directory / "done"
        self._done.touch()
        self._directory = directory
        self._stack = stack

    def hire(self, name: str, *, heartbeat: str = "10") -> tuple[AgentProcess, str]:
        """Start an agent that adds up, and return it and its id once it is free.

        Three heartbeats of silence make it lost: few seconds may be the machine's fault alone.
        """
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        agent = self._stack.enter_context(
            running_agent(
                self._directory,
                *("--port", str(port)),
                app="tests.e2e.task_agent:app",
                DONE=str(self._done),
                OPSCORE_API_URL=self.opscore.url,
                OPSCORE_API_KEY=KEY,
                OPSCORE_AGENT_NAME=name,
                OPSCORE_AGENT_CAPABILITIES="add",
                OPSCORE_CONTACT_ENDPOINT=f"http://127.0.0.1:{port}/task",
                OPSCORE_HEARTBEAT_INTERVAL=heartbeat,
            )
        )
        return agent, wait_until(lambda: self._idle(name), message=f"{name} to be idle")

    def start(self, agent_id: str, definition: Any, **payload: Any) -> str:
        start = WorkflowStart(workflow_definition=definition, initial_payload=payload or None)
        return self.client.start_workflow(agent_id, start).session_id

    def waiting_task(self, agent_id: str, **task: Any) -> str:
        """Start a session whose only task takes until `go_on` is there."""
        parameters = {"wait_for": str(self.go_on), "numbers": [1, 2]}
        only = {"taskId": "only", "name": "Wait", "agentCapability": "add", **task}
        definition = {"id": "wait", "name": "W", "tasks": [{**only, "parameters": parameters}]}
        return self.start(agent_id, definition)

    def tasks(self, session_id: str) -> dict[str, TaskView]:
        query = TaskQuery(session_id=session_id)
        return {task.node: task for task in self.client.list_tasks(query).items}

    def ends(self, session_id: str) -> Any:
        """Wait until a session has ended well, and return its result."""
        wait_until(
            lambda: self.client.get_session(session_id).state in TERMINAL,
            timeout=PATIENCE,
            message=f"{session_id} to end",
        )
        session = self.client.get_session(session_id)
        assert session.state is SessionState.COMPLETED, (session.error, self.tasks(session_id))
        return session.result

    def lines(self, word: str) -> list[str]:
        """Return the tasks of which agents noted `begun` or `ended`, in order."""
        split = [line.split() for line in self._done.read_text().splitlines()]
        return [attempt.partition(".")[0] for _, said, attempt in split if said == word]

    def story(self, sessions: Sequence[str]) -> str:
        """Tell what became of sessions, for whoever has to find out why."""
        tasks = [task for one in sessions for task in self.tasks(one).values()]
        return "\n".join([*map(repr, tasks), self._done.read_text(), self.opscore.log()])

    def _idle(self, name: str) -> str:
        found = self.client.list_agents(AgentQuery(name=name)).items
        return found[0].agent_id if found and found[0].state == "idle" else ""


@pytest.fixture(params=["file", "postgres"])
def company(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Company]:
    database = request.getfixturevalue("postgres") if request.param == "postgres" else None
    with (
        running_opscore(tmp_path, KEY, database_url=database) as opscore,
        ExitStack() as stack,
    ):
        yield Company(opscore, tmp_path, stack)


def test_results_flow_through_a_workflow_that_two_agents_do(company: Company) -> None:
    _, agent_id = company.hire("ann")
    company.hire("ben")
    session_id = company.start(agent_id, NUMBERS, numbers=[1, 2, 3])
    result = company.ends(session_id)
    assert {node: one["sum"] for node, one in result.items()} == {
        "first": 6,
        "left": 16,
        "right": 26,
        "last": 42,
    }
    assert {result["left"]["by"], result["right"]["by"]} == {"ann", "ben"}
    assert len(company.lines("ended")) == 4
    assert {task.attempt for task in company.tasks(session_id).values()} == {1}


def test_another_agent_takes_up_what_a_killed_one_left(company: Company) -> None:
    ann, agent_id = company.hire("ann", heartbeat="0.5")
    _, ben_id = company.hire("ben")
    session_id = company.waiting_task(agent_id)
    wait_until(lambda: company.lines("begun"), message="ann to begin")
    ann.signal(signal.SIGKILL)
    wait_until(
        lambda: len(company.lines("begun")) == 2, timeout=PATIENCE, message="ben to begin anew"
    )
    company.go_on.touch()
    assert company.ends(session_id) == {"only": {"sum": 3, "by": "ben"}}
    task = company.tasks(session_id)["only"]
    assert (task.attempt, task.assigned_agent_id) == (2, ben_id)
    assert len(company.lines("ended")) == 1


def test_a_killed_ops_core_loses_nothing_and_has_nothing_done_twice(company: Company) -> None:
    _, agent_id = company.hire("ann")
    company.hire("ben")
    sessions = [company.waiting_task(agent_id) for _ in range(6)]
    wait_until(lambda: len(company.lines("begun")) == 2, message="both to begin")
    company.opscore.kill()
    company.go_on.touch()
    wait_until(lambda: len(company.lines("ended")) == 2, message="both to end meanwhile")
    company.opscore.restart()
    for session_id in sessions:
        assert company.ends(session_id)["only"]["sum"] == 3
    done = Counter(company.lines("ended"))
    assert len(done) == 6
    assert set(done.values()) == {1}, company.story(sessions)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_an_ops_core_that_is_killed_again_and_again_loses_nothing(company: Company) -> None:
    _, agent_id = company.hire("ann")
    company.hire("ben")
    company.go_on.touch()
    sessions = [
        company.waiting_task(agent_id, timeouts={"scheduleToStart": "5s"}) for _ in range(100)
    ]
    for kills in range(1, 6):
        wait_until(
            lambda kills=kills: len(company.lines("ended")) >= kills * 10,
            timeout=PATIENCE,
            message="some to be done",
        )
        company.opscore.kill()
        company.opscore.restart()
    for session_id in sessions:
        assert company.ends(session_id)["only"]["sum"] == 3
    assert {task.state for s in sessions for task in company.tasks(s).values()} == {
        TaskState.COMPLETED
    }
    assert set(Counter(company.lines("ended")).values()) == {1}, company.story(sessions)
