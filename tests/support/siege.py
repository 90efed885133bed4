"""Servers killed again and again under load, while some report and some watch.

Whoever reports repeats what was not answered, at another server where there is one; whoever watches
goes on where the last connection was lost. So what is kept in the end must be what was answered,
once; and what was told must be what is kept, once and in order.
"""

from __future__ import annotations

import http.client
import itertools
import json
import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Protocol

import httpx

from opscore_middleware.client import OpsCoreClient
from opscore_middleware.core.models import HistoryQuery, Order, Registration, Transition
from tests.support.processes import OpsCoreProcess
from tests.support.streams import watching
from tests.support.waiting import TIMEOUT, wait_until

__all__ = ["besiege", "watch_often"]

REPORTERS = 32
WATCHERS = 3
PAUSE = 0.02
"""How long to leave a server alone that did not answer, in seconds."""
RECOVERY = 6 * TIMEOUT
_NOT_NOW = frozenset({429, 503})

watch_often = {"OPSCORE_WATCH_HEARTBEAT": "0.5"}
"""Lets those who watch notice soon that it is over."""


class Database(Protocol):
    """What servers share, and what can be killed like them."""

    def kill(self) -> None: ...

    def start(self) -> None: ...


class Reporter:
    """One instance of the agent, which reports one sequence after another.

    `answered` is the last one that was taken, by its answer.
    """

    def __init__(self, servers: Sequence[OpsCoreProcess], agent_id: str, number: int) -> None:
        self.instance_id = f"i{number}"
        self.answered = 0
        self._servers = itertools.cycle(servers[number % len(servers) :] + servers[:number])
        self._agent_id = agent_id

    def report_until(self, over: threading.Event) -> None:
        """Report, beginning with what nobody has answered, at one server after the other."""
        while not over.is_set():
            server = next(self._servers)
            address = server.url.removeprefix("http://")
            with closing(http.client.HTTPConnection(address, timeout=30)) as connection:
                try:
                    while not over.is_set() and self._is_answered(connection, server.headers()):
                        self.answered += 1
                except (OSError, http.client.HTTPException):
                    pass
            over.wait(PAUSE)

    def _is_answered(self, connection: http.client.HTTPConnection, headers: dict[str, str]) -> bool:
        sequence = self.answered + 1
        body = {
            "agentId": self._agent_id,
            "timestamp": "2026-09-21T14:13:20Z",
            "state": "active" if sequence % 2 else "idle",
            "instanceId": self.instance_id,
            "sequence": sequence,
        }
        path = f"/v1/opscore/agent/{self._agent_id}/state"
        connection.request("POST", path, json.dumps(body), headers)
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status in {202, *_NOT_NOW}, content
        return answer.status == 202


class Watcher:
    """One that watches everything; `told` are the ids of all events that it was told of."""

    def __init__(self, servers: Sequence[OpsCoreProcess]) -> None:
        self.told: list[int] = []
        self._servers = itertools.cycle(servers)
        self._position = "0"

    def watch_until(self, over: threading.Event) -> None:
        """Watch at one server after the other."""
        while not over.is_set():
            server = next(self._servers)
            headers = {**server.headers(), "Last-Event-ID": self._position}
            try:
                self._watch(server.url, headers, over)
            except (httpx.HTTPError, AssertionError):  # cut off, refused, or ended
                over.wait(PAUSE)

    def _watch(self, url: str, headers: dict[str, str], over: threading.Event) -> None:
        with watching(url, headers) as stream:

            def take() -> bool:
                self.told += [event["eventId"] for event in stream.events]
                stream.events.clear()
                self._position = stream.last_id or self._position
                return over.is_set()

            stream.read(take)


def besiege(
    servers: Sequence[OpsCoreProcess],
    rounds: int,
    *,
    database: Database | None = None,
    restarts: int = 0,
    seed: int = 0,
) -> None:
    """Kill one of the servers in each round, and their database `restarts` times, and see that no
    answer was taken back, nothing was kept twice, and nobody who watched missed or repeated any.
    """
    chance = random.Random(seed)
    restarting = set(range(0, rounds, -(-rounds // restarts))) if restarts else set()
    agent_id = _register(servers[0])
    reporters = [Reporter(servers, agent_id, number) for number in range(REPORTERS)]
    watchers = [Watcher(servers[number % len(servers) :]) for number in range(WATCHERS)]
    with _running([watcher.watch_until for watcher in watchers]) as watched:
        with _running([reporter.report_until for reporter in reporters]):
            for number in range(rounds):
                # Sooner or later in the flow of commits, so that all moments are met.
                _go_on(reporters, REPORTERS + 37 * number % 500)
                _strike(chance.choice(servers), database if number in restarting else None)
            before = [reporter.answered for reporter in reporters]
            wait_until(
                lambda: all(r.answered > n for r, n in zip(reporters, before, strict=True)),
                timeout=RECOVERY,
                message="everybody to be answered again",
            )
        history = _history(servers[0], agent_id)
        wait_until(
            lambda: all(len(watcher.told) >= len(history) for watcher in watchers),
            timeout=RECOVERY,
            message="everybody to be told of everything",
        )
        watched.set()
    _check(history, reporters, watchers)


def _check(
    history: Sequence[Transition], reporters: Sequence[Reporter], watchers: Sequence[Watcher]
) -> None:
    kept: dict[str | None, list[int | None]] = defaultdict(list)
    for transition in history:
        kept[transition.instance_id].append(transition.sequence)
    for reporter in reporters:
        found = kept.pop(reporter.instance_id)
        # The last one may have been kept without an answer.
        assert found in (
            list(range(1, reporter.answered + 1)),
            list(range(1, reporter.answered + 2)),
        )
    assert not kept
    event_ids = [transition.event_id for transition in history]
    assert all(a < b for a, b in itertools.pairwise(event_ids))
    for watcher in watchers:
        assert watcher.told == event_ids


def _strike(victim: OpsCoreProcess, database: Database | None) -> None:
    if database is not None:
        database.kill()
    victim.kill()
    if database is not None:
        database.start()
    victim.start()


def _go_on(reporters: Sequence[Reporter], more: int) -> None:
    enough = sum(reporter.answered for reporter in reporters) + more
    wait_until(
        lambda: sum(reporter.answered for reporter in reporters) >= enough,
        timeout=RECOVERY,
        message=f"{more} more answers",
    )


@contextmanager
def _running(works: Sequence[Callable[[threading.Event], None]]) -> Iterator[threading.Event]:
    """Run all of them in threads until the block ends, or says so earlier."""
    over = threading.Event()
    with ThreadPoolExecutor(len(works)) as threads:
        running = [threads.submit(work, over) for work in works]
        try:
            yield over
        finally:
            over.set()
            # Who failed first is why the others waited in vain.
            for work in running:
                work.result()


def _register(server: OpsCoreProcess) -> str:
    with OpsCoreClient(server.url, api_key=server.api_key) as client:
        return client.register_agent(Registration(agent_name="besieged")).agent_id


def _history(server: OpsCoreProcess, agent_id: str) -> list[Transition]:
    with OpsCoreClient(server.url, api_key=server.api_key) as client:
        return list(client.iter_history(agent_id, HistoryQuery(order=Order.ASC, limit=1000)))
