"""What a whole process shows: imports, forks, exits and threads."""

from __future__ import annotations

import http.server
import json
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.agent.support import KEY, registered
from tests.support.measuring import least
from tests.support.processes import clean_environment


def run(script: str, *args: str, options: tuple[str, ...] = (), **env: str) -> str:
    """Run a script in a fresh interpreter that turns warnings into errors; return its output."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *options, "-c", textwrap.dedent(script), *args],
        env=clean_environment(**env),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


# How a script serves one request, or a whole life, without a server.
AGENT = """
import asyncio, os, sys, time
from opscore_middleware import OpsCoreMiddleware

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        for step in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{step}.complete"})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

async def nothing(message):
    pass

def work():
    asyncio.run(agent({"type": "http", "method": "POST", "path": "/"}, None, nothing))

def live():
    messages = [{"type": "lifespan.shutdown"}, {"type": "lifespan.startup"}]
    async def receive():
        return messages.pop()
    asyncio.run(agent({"type": "lifespan"}, receive, nothing))

def get_known():
    # The first words take longest, and an exit waits little.
    until = time.monotonic() + 10
    while agent.agent_id is None and time.monotonic() < until:
        time.sleep(0.001)

agent = OpsCoreMiddleware(app, api_url=sys.argv[1], agent_name="scripted")
"""


class Sink:
    """An Ops-Core over a real socket that accepts everything and remembers the reports."""

    def __init__(self) -> None:
        self.reports: list[dict[str, Any]] = []
        sink = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                answer = registered(body) if self.path.endswith("/agents") else {}
                sink.reports.extend(body.get("reports", []))
                content = json.dumps(answer).encode()
                self.send_response(201)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_args: object) -> None:
                """Keep quiet."""

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_args: object) -> None:
                """Keep quiet when a client's process has ended."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    @property
    def states(self) -> list[str]:
        return [report["state"] for report in list(self.reports)]


@pytest.fixture
def sink() -> Iterator[Sink]:
    sink = Sink()
    thread = threading.Thread(target=sink.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield sink
    sink.server.shutdown()
    sink.server.server_close()
    thread.join()


@contextmanager
def black_hole() -> Iterator[str]:
    """Yield the address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as hole:
        yield f"http://127.0.0.1:{hole.getsockname()[1]}"


def test_importing_the_middleware_loads_no_server_code() -> None:
    loaded = run("import sys, opscore_middleware; print(*sys.modules)").split()
    assert "opscore_middleware.agent.middleware" in loaded
    # Not rich: httpx itself imports it where it is installed.
    strangers = {"fastapi", "uvicorn", "asyncpg", "sqlite3", "structlog", "typer", "trio"}
    assert not strangers & {name.partition(".")[0] for name in loaded}
    theirs = ("server", "stores", "cli", "client", "testing", "core.opscore")
    assert not [
        name for name in loaded if name.startswith(tuple(f"opscore_middleware.{n}" for n in theirs))
    ]


def test_importing_starts_nothing() -> None:
    out = run("import threading, opscore_middleware; print(threading.active_count())")
    assert out.strip() == "1"


def test_a_process_that_ends_without_a_lifespan_says_finished(sink: Sink) -> None:
    run(AGENT + "work(); get_known()", sink.url)
    assert sink.states == ["active", "idle", "finished"]


def test_a_process_that_fails_at_the_end_keeps_its_error(sink: Sink) -> None:
    failing = """
    work()
    get_known()
    async def app(scope, receive, send):
        raise ValueError("no")
    agent.app = app
    try:
        work()
    except ValueError:
        pass
    """
    run(AGENT + textwrap.dedent(failing), sink.url)
    assert sink.states == ["active", "idle", "active", "error"]


def test_work_that_begins_while_the_interpreter_exits_leaves_no_traceback(sink: Sink) -> None:
    """From Python 3.12 on no thread can be started there."""
    run(AGENT + "import atexit; atexit.register(live)", sink.url)
    run("import atexit\n" + AGENT + "atexit.register(work); work()", sink.url)


FORK = """
import signal, threading
from opscore_middleware import track
def fail():
    async def failing(scope, receive, send):
        with track("piece"):
            raise ValueError("no")
    agent.app = failing
    try:
        work()
    except ValueError:
        pass
parent = agent._tracker
work()
agent._runtime.flush(5)  # so that there is a connection to inherit
holding, fork = threading.Event(), threading.Event()
def hold():
    with parent.lock:
        holding.set()
        fork.wait(10)
threading.Thread(target=hold, daemon=True).start()
holding.wait(10)
child = os.fork()
if child == 0:
    signal.alarm(10)
    work()
    fail()
    agent._runtime.flush(5)
    os._exit(0)
fork.set()
assert os.waitpid(child, 0)[1] == 0
work()
"""


@pytest.mark.skipif(not hasattr(sys.modules["os"], "fork"), reason="this system does not fork")
def test_a_child_forked_while_the_lock_is_held_reports_under_an_instance_of_its_own(
    sink: Sink,
) -> None:
    run(AGENT + FORK, sink.url, options=("-W", "ignore::DeprecationWarning"))
    lives: dict[str, list[str]] = {}
    for report in sorted(sink.reports, key=lambda report: report["sequence"]):
        lives.setdefault(report["instanceId"], []).append(report["state"])
    assert sorted(lives.values()) == [
        ["active", "idle", "active", "error"],
        ["active", "idle", "active", "idle", "finished"],
    ]


# Registered first, so run last: how long the exit took with all that is ours in between.
CLOCK = """
import atexit, time
began = []
atexit.register(lambda: print(time.monotonic() - began[0]))
"""


@pytest.mark.skipif(not hasattr(sys.modules["os"], "fork"), reason="this system does not fork")
def test_a_child_that_exits_through_the_lifespan_of_its_parent_says_nothing(sink: Sink) -> None:
    script = """
    async def forking(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        child = os.fork()
        if child == 0:
            sys.exit(3)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    agent.app = forking
    live()
    """
    run(AGENT + textwrap.dedent(script), sink.url, options=("-W", "ignore::DeprecationWarning"))
    assert sink.states == ["initializing", "idle", "draining", "finished"]


def test_work_in_a_child_that_was_forked_within_a_request_is_told(sink: Sink) -> None:
    script = (
        AGENT
        + """
from opscore_middleware import track

async def forking(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if os.fork() == 0:
        with track("in the child"):
            seen = agent.state
        os._exit(0 if seen == "active" else 3)
    print(os.waitstatus_to_exitcode(os.wait()[1]))
    await send({"type": "http.response.body", "body": b""})

agent.app = forking
work()
"""
    )
    assert run(script, sink.url).strip() == "0"


@pytest.mark.skipif(not hasattr(sys.modules["os"], "fork"), reason="this system does not fork")
def test_a_child_that_multiprocessing_has_forked_tells_its_end(sink: Sink) -> None:
    """It ends past `atexit`; left unsaid, its last state would be the agent's until it is lost."""
    script = """
    import multiprocessing
    from opscore_middleware import track

    def in_the_child():
        with track():
            pass

    work()
    get_known()
    agent._runtime.flush(5)
    child = multiprocessing.get_context("fork").Process(target=in_the_child)
    child.start()
    child.join(10)
    assert child.exitcode == 0
    os._exit(0)
    """
    run(AGENT + textwrap.dedent(script), sink.url, options=("-W", "ignore::DeprecationWarning"))
    parent = sink.reports[0]["instanceId"]
    assert [r["state"] for r in sink.reports if r["instanceId"] != parent][-1] == "finished"


@pytest.mark.skipif(not hasattr(sys.modules["os"], "fork"), reason="this system does not fork")
def test_a_child_that_was_forked_before_it_loaded_its_agent_tells_its_end(sink: Sink) -> None:
    """As granian forks its workers."""
    script = f"""
    import multiprocessing, os

    def in_the_child():
        exec({AGENT!r}, globals())
        work()
        get_known()

    child = multiprocessing.get_context("fork").Process(target=in_the_child)
    child.start()
    child.join(10)
    assert child.exitcode == 0
    os._exit(0)
    """
    run(textwrap.dedent(script), sink.url)
    assert sink.states[-1] == "finished"


def test_a_black_hole_delays_the_whole_exit_by_half_a_second_at_most() -> None:
    """Both flushes of the lifespan and the one at exit share one patience."""
    script = CLOCK + AGENT
    script += "began.append(time.monotonic()); live()"
    with black_hole() as url:
        assert least(lambda: float(run(script, url)), below=0.65) < 0.65


def test_an_exit_without_a_lifespan_waits_half_a_second_at_most() -> None:
    script = CLOCK + AGENT
    script += "work(); began.append(time.monotonic())"
    with black_hole() as url:
        assert least(lambda: float(run(script, url)), below=0.65) < 0.65


def test_many_agents_in_one_process_share_one_patience_at_exit() -> None:
    script = CLOCK + AGENT
    script += "agents = [OpsCoreMiddleware(app, api_url=sys.argv[1]) for _ in range(5)]\n"
    script += "for agent in agents: work()\nbegan.append(time.monotonic())"
    with black_hole() as url:
        assert least(lambda: float(run(script, url)), below=0.8) < 0.8


def test_an_app_that_is_thrown_away_takes_its_thread_and_connection_along(sink: Sink) -> None:
    script = """
    import gc, threading
    def threads():
        return [t for t in threading.enumerate() if t.name == "opscore-reporter"]
    work()
    get_known()
    assert len(threads()) == 1
    del agent
    gc.collect()
    until = time.monotonic() + 5
    while threads() and time.monotonic() < until:
        time.sleep(0.001)
    assert not threads()
    """
    run(AGENT + textwrap.dedent(script), sink.url)


def test_no_log_at_any_level_shows_the_key(sink: Sink) -> None:
    script = "import logging, io\nlog = io.StringIO()\n"
    script += "logging.basicConfig(level=0, stream=log)\n" + AGENT
    script += f"agent = OpsCoreMiddleware(app, api_url=sys.argv[1], api_key={KEY!r})\n"
    script += "work(); get_known(); live(); print(log.getvalue())"
    out = run(script, sink.url)
    assert "opscore_middleware" in out
    assert KEY not in out
    assert "Bearer" not in out


def test_memory_is_flat_while_ops_core_is_away() -> None:
    script = """
    import logging, threading, tracemalloc
    noticed = threading.Event()
    logger = logging.getLogger("opscore_middleware")
    logger.addHandler(logging.NullHandler())
    logger.addFilter(lambda record: noticed.set())
    tracker = agent._tracker
    failure = {"error": {"type": "ValueError", "message": "x" * 500}}
    def hour(transitions):
        for _ in range(transitions // 4):
            tracker.end(tracker.begin())
            tracker.fail(tracker.begin(), dict(failure))
    hour(20_000)
    noticed.wait(10)  # what a first connection imports is not growth
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    hour(200_000)
    print(tracemalloc.get_traced_memory()[0] - before, len(agent._runtime.outbox))
    """
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    out = run(AGENT + textwrap.dedent(script), url)
    grown, kept = map(int, out.split())
    assert grown < 300_000
    assert kept <= 256


def test_a_slow_start_of_ops_core_does_not_delay_ours() -> None:
    with black_hole() as url:
        assert least(lambda: float(run(AGENT + STARTS, url)), below=0.2) < 0.2


STARTS = """
async def start():
    up = asyncio.Event()
    async def receive():
        if not up.is_set():
            return {"type": "lifespan.startup"}
        await asyncio.Event().wait()
    async def send(message):
        up.set()
    lifespan = asyncio.create_task(agent({"type": "lifespan"}, receive, send))
    await up.wait()
    print(time.monotonic() - started, flush=True)
    os._exit(0)
started = time.monotonic()
asyncio.run(start())
"""
