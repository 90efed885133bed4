"""Signals: heard at once, and left to whoever handled them before."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from opscore_middleware.agent.signals import SignalWatch
from tests.support.processes import clean_environment


@pytest.fixture
def hosts() -> Iterator[list[int]]:
    """Handle SIGTERM as a server does; return what it has heard."""
    heard: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        heard.append(number)

    before = signal.signal(signal.SIGTERM, handle)
    yield heard
    signal.signal(signal.SIGTERM, before)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_both_hear_and_the_host_decides(hosts: list[int]) -> None:
    ours: list[str] = []
    watch = SignalWatch(lambda: ours.append("ours"))
    watch.install()
    watch.install()  # a second lifespan changes nothing
    terminate()
    assert (ours, hosts) == (["ours"], [signal.SIGTERM])
    watch.uninstall()
    terminate()
    assert (ours, hosts) == (["ours"], [signal.SIGTERM] * 2)


def test_an_agent_that_ends_first_does_not_cut_the_host_off(hosts: list[int]) -> None:
    """Two agents in one process; the one whose handler lies beneath the other's goes first."""
    ours: list[str] = []
    first, second = (SignalWatch(lambda name=name: ours.append(name)) for name in "ab")
    first.install()
    second.install()
    first.uninstall()
    terminate()
    assert hosts == [signal.SIGTERM]
    second.uninstall()
    terminate()
    assert hosts == [signal.SIGTERM] * 2


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        watch = SignalWatch(lambda: None)
        watch.install()
        terminate()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        watch.uninstall()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_handler_that_is_put_over_ours_hears_and_hands_on_once(hosts: list[int]) -> None:
    """It stays over ours from one lifespan to the next, and must not become a ring with it."""
    ours: list[str] = []
    theirs: list[int] = []
    watch = SignalWatch(lambda: ours.append("ours"))
    watch.install()
    beneath: Any = signal.getsignal(signal.SIGTERM)

    def over(number: int, frame: FrameType | None) -> None:
        theirs.append(number)
        beneath(number, frame)

    signal.signal(signal.SIGTERM, over)
    watch.uninstall()
    terminate()
    assert (ours, len(theirs), len(hosts)) == ([], 1, 1)
    watch.install()
    terminate()
    assert (ours, len(theirs), len(hosts)) == (["ours"], 2, 2)
    watch.uninstall()
    assert signal.getsignal(signal.SIGTERM) is over


def test_elsewhere_than_in_the_main_thread_nothing_is_installed(hosts: list[int]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    watch = SignalWatch(lambda: None)
    for step in (watch.install, watch.uninstall):
        thread = threading.Thread(target=step)
        thread.start()
        thread.join()
        assert signal.getsignal(signal.SIGTERM) is before


# --- in a process of its own ---------------------------------------------------------------------

AGENT = """
import asyncio, json, os, signal, sys, threading
import httpx
from opscore_middleware import OpsCoreMiddleware

told = []

def take(request):
    body = json.loads(request.content)
    told.extend(report["state"] for report in body.get("reports", []))
    return httpx.Response(202, json={"agentId": "a", **body})

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await live(agent)
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

async def nothing(message=None):
    pass

def one_lifespan():
    coming = [{"type": "lifespan.shutdown"}, {"type": "lifespan.startup"}]
    async def receive():
        return coming.pop()
    return agent({"type": "lifespan"}, receive, nothing)

async def work():
    await agent({"type": "http", "method": "POST", "path": "/", "headers": []}, nothing, nothing)

def agent_with(**settings):
    return OpsCoreMiddleware(
        app, api_url="http://ops-core.test", agent_name="signalled", agent_id="a",
        transport=lambda: httpx.MockTransport(take), **settings)

def lifespan():
    asyncio.run(one_lifespan())
    print(json.dumps({"told": told, "heard": len(heard)}))

heard = []
"""


def run(script: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", AGENT + textwrap.dedent(script)],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout) if done.stdout else {}


def test_signals_that_land_anywhere_in_the_work_block_nothing() -> None:
    code, said = run("""
    async def live(agent):
        async def bombard():
            await asyncio.to_thread(lambda: [os.kill(os.getpid(), signal.SIGTERM)
                                             or pause.wait(0.0005) for _ in range(1000)])
        shelling = asyncio.create_task(bombard())
        while not shelling.done():
            for _ in range(50):
                await work()
            await asyncio.sleep(0)

    pause = threading.Event()
    sys.setswitchinterval(0.0001)  # else the work lets go of the interpreter 5 ms after it is asked
    signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    agent = agent_with()
    lifespan()
    """)
    assert code == 0
    assert said["heard"] > 100
    assert said["told"].count("draining") == 1
    assert said["told"][-2:] == ["draining", "finished"]


def test_draining_is_told_while_the_server_still_waits() -> None:
    code, said = run("""
    async def live(agent):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(5000):
            if "draining" in told:
                break
            await asyncio.sleep(0.001)
        heard.extend(told)

    signal.signal(signal.SIGINT, lambda number, frame: None)
    agent = agent_with()
    lifespan()
    """)
    assert (code, said["heard"]) == (0, 3)
    assert said["told"] == ["initializing", "idle", "draining", "finished"]


def test_what_a_signal_does_without_us_it_does_with_us() -> None:
    code, said = run("""
    async def live(agent):
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(30)

    agent = agent_with()
    lifespan()
    """)
    assert (code, said) == (-signal.SIGTERM, {})


def test_handle_signals_can_be_switched_off_and_handlers_are_put_back() -> None:
    code, said = run("""
    async def live(agent):
        assert (signal.getsignal(signal.SIGTERM) is before) is off

    before = lambda number, frame: None
    signal.signal(signal.SIGTERM, before)
    for off in (True, False):
        agent = agent_with(handle_signals=not off)
        asyncio.run(one_lifespan())
        assert signal.getsignal(signal.SIGTERM) is before
    """)
    assert (code, said) == (0, {})


def test_a_start_that_fails_leaves_no_handler_behind() -> None:
    code, said = run("""
    before = lambda number, frame: None
    signal.signal(signal.SIGTERM, before)
    agent = agent_with()

    async def failing(scope, receive, send):
        await receive()
        assert signal.getsignal(signal.SIGTERM) is not before
        await send({"type": "lifespan.startup.failed", "message": "no ink"})

    agent.app = failing
    asyncio.run(one_lifespan())
    assert signal.getsignal(signal.SIGTERM) is before
    """)
    assert (code, said) == (0, {})
