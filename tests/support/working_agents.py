"""Agents that do tasks: sent to them over HTTP, done in a thread, and ended with their results."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opscore_middleware.client import OpsCoreClient
from opscore_middleware.core.models import Registration, StateReport
from opscore_middleware.core.runs.views import TaskResult

__all__ = ["Do", "working_agent"]

Do = Callable[[str, Any], Any]
"""Does a task, given its name and its parameters; what it raises is the task's error."""


class _Server(ThreadingHTTPServer):
    """Acknowledges tasks and does them."""

    daemon_threads = True

    def __init__(self, client: OpsCoreClient, do: Do) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.client = client
        self.do = do
        self.working: list[threading.Thread] = []

    def work(self, body: dict[str, Any]) -> None:
        try:
            result = TaskResult(result=self.do(body["task_name"], body["payload"]))
        except ValueError as error:
            result = TaskResult(error={"type": "ValueError", "message": str(error)})
        self.client.end_task(body["opscore_task_id"], result)


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()
        thread = threading.Thread(target=self.server.work, args=(body,))
        self.server.working.append(thread)
        thread.start()

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing: a test's output is its own."""


@contextmanager
def working_agent(
    client: OpsCoreClient, name: str, *capabilities: str, do: Do, agent_id: str | None = None
) -> Iterator[str]:
    """Register an agent that is free and does tasks until the block ends; yield its id."""
    server = _Server(client, do)
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    serving.start()
    try:
        agent = client.register_agent(
            Registration(
                agent_id=agent_id,
                agent_name=name,
                capabilities=list(capabilities),
                contact_endpoint=f"http://127.0.0.1:{server.server_port}/task",
            )
        )
        report = StateReport(
            agent_id=agent.agent_id,
            state="idle",
            timestamp=datetime.now(UTC),
            instance_id="i-1",
            sequence=1,
        )
        client.report_state(report)
        yield agent.agent_id
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
        for thread in server.working:
            thread.join()
