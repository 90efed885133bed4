"""How an attempt reaches its agent: through AgentKit, or straight to the agent's endpoint."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, Final

import httpx

from opscore_middleware.agentkit import AsyncAgentKit
from opscore_middleware.core.clock import Clock
from opscore_middleware.core.runs.records import Endpoint
from opscore_middleware.core.runs.tasks import Route, Task, attempt_id
from opscore_middleware.errors import EndpointNotAllowed, RemoteError, RemoteUnavailable
from opscore_middleware.server.dispatch.parcels import headers_of, message_of
from opscore_middleware.server.dispatch.refusals import (
    Refused,
    by_agent,
    by_agentkit,
    together,
    unreachable,
)
from opscore_middleware.server.tracing import inject, span

__all__ = ["Sender", "Taken"]

Taken = Callable[[Route], Awaitable[None]]
"""Called once, as soon as somebody has an attempt; that it was started, only the agent says."""

CONNECT: Final = 5.0
"""How long an agent's address may take to be connected to, in seconds."""
WRITE: Final = 10.0
"""How long an agent may stop reading what it is sent, in seconds."""
SILENCE: Final = 1.0
"""How long an agent may have an attempt without a word before it counts as taken, in seconds."""
_SAY: Final = 5.0  # seconds in which an agent that refuses may say why
_MOST_SAID: Final = 2000  # bytes of it that are read
_PASSWORD: Final = re.compile(r"(?<=//)[^/?#]*@")


class Sender:
    """Sends attempts.

    Args:
        transport: carries what goes straight to agents; closed with the sender.
        agentkit: hands on what goes through AgentKit; None where none is configured.
        clock: returns now, in microseconds since the Unix epoch.
    """

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        *,
        agentkit: AsyncAgentKit | None,
        clock: Clock,
    ) -> None:
        self._agentkit = agentkit
        self._clock = clock
        # Not through a client, which would hand the cookies of one agent to the next on its host.
        self._transport = transport
        # No end to the wait for an answer: an agent may work for as long as its attempt lasts.
        self._timeout = httpx.Timeout(None, connect=CONNECT, write=WRITE).as_dict()
        self._ways = {Route.AGENTKIT: self._by_agentkit, Route.DIRECT: self._straight}

    async def close(self) -> None:
        """Let go of every connection, whatever is still to be answered on it."""
        await self._transport.aclose()

    async def send(
        self,
        task: Task,
        endpoint: Endpoint,
        routes: Sequence[Route],
        *,
        taken: Taken,
        traceparent: str | None = None,
    ) -> Refused | None:
        """Send an attempt by the first of `routes` that works; return why where none does.

        It carries on the trace that `traceparent` names.

        Returns when all is said: an agent may answer once it has done the work, and is listened to
        until then; whoever does not want to wait for that cancels this. An agent that answers so
        late may still refuse after `taken`.
        """
        refusals: list[Refused] = []
        with span("send task", {"opscore.task_id": attempt_id(task)}, parent=traceparent):
            for route in routes:
                refusal = await self._ways[route](task, endpoint, taken)
                if refusal is None or refusal.reached:
                    return refusal
                refusals.append(refusal)
        return together(refusals, endpoint)

    async def _by_agentkit(self, task: Task, endpoint: Endpoint, taken: Taken) -> Refused | None:
        if self._agentkit is None:
            return unreachable(Route.AGENTKIT, "AGENTKIT_API_URL is not set")
        try:
            await self._agentkit.run(endpoint.agent_id, message_of(task, now=self._clock()))
        except RemoteUnavailable as error:
            if isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout):
                return unreachable(Route.AGENTKIT, error.message)
            # It may have the attempt and hand it on: by another route it might be done twice.
        except RemoteError as error:
            return by_agentkit(error)
        await taken(Route.AGENTKIT)
        return None

    async def _straight(self, task: Task, endpoint: Endpoint, taken: Taken) -> Refused | None:
        written = asyncio.Event()
        try:
            request = self._request(task, endpoint, written)
        except (httpx.InvalidURL, UnicodeError) as error:  # of a name that IDNA does not know
            return unreachable(Route.DIRECT, f"{_shown(endpoint)!r} is no address: {error}")
        if request is None:
            return unreachable(Route.DIRECT, "it has registered no contactEndpoint")
        told = False
        answering = asyncio.ensure_future(self._transport.handle_async_request(request))
        try:
            # The way to a new agent is noted at once: it may have done all before it answers.
            patience = SILENCE if task.route is Route.DIRECT else 0.0
            if await _is_silent(answering, written, patience):
                told = True
                await taken(Route.DIRECT)
            response = await answering
        except EndpointNotAllowed as error:
            return unreachable(Route.DIRECT, error.message, kind="EndpointNotAllowed")
        except httpx.HTTPError as error:
            if not written.is_set():
                return unreachable(Route.DIRECT, f"{_shown(endpoint)}: {_said(error)}")
            # It has the attempt, whatever became of the answer.
            if not told:
                await taken(Route.DIRECT)
            return None
        finally:
            answering.cancel()
        async with aclosing(response):
            if not response.is_success:
                return by_agent(response, await _beginning(response), self._clock())
            if not told:
                await taken(Route.DIRECT)
            await _listen(response)
        return None

    def _request(
        self, task: Task, endpoint: Endpoint, written: asyncio.Event
    ) -> httpx.Request | None:
        if endpoint.url is None:
            return None

        async def trace(event: str, _info: Any) -> None:
            if event == "http11.send_request_body.complete":
                written.set()

        carried: dict[str, str] = {}
        inject(carried)
        request = httpx.Request(
            "POST",
            endpoint.url,
            content=message_of(task, now=self._clock()).body(),
            headers=[
                (b"Accept", b"*/*"),
                (b"User-Agent", b"opscore"),
                *headers_of(task),
                *((name.encode(), value.encode()) for name, value in carried.items()),
            ],
            extensions={"timeout": self._timeout, "trace": trace},
        )
        if request.url.userinfo:
            next(httpx.BasicAuth(request.url.username, request.url.password).auth_flow(request))
        return request


async def _is_silent(
    answering: asyncio.Future[httpx.Response], written: asyncio.Event, patience: float
) -> bool:
    """Tell whether an agent that has the whole request says nothing for a while."""
    writing = asyncio.ensure_future(written.wait())
    try:
        either: set[asyncio.Future[Any]] = {answering, writing}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        done, _ = await asyncio.wait({answering}, timeout=patience)
        return not done
    finally:
        writing.cancel()


async def _beginning(response: httpx.Response) -> str:
    """Read as much of a refusal as is kept."""
    # Nobody asked for it to be packed, and a little of it may unpack to more than fits in memory.
    if response.headers.get("content-encoding", "identity") != "identity":
        return ""
    said = b""
    try:
        async with asyncio.timeout(_SAY):
            async for chunk in response.aiter_raw():
                said += chunk
                if len(said) >= _MOST_SAID:
                    break
    except (TimeoutError, httpx.HTTPError, httpx.StreamError):
        pass  # what came before is what there is
    return said[:_MOST_SAID].decode(errors="replace")


async def _listen(response: httpx.Response) -> None:
    """Read to the end: an agent that streams would take a closed connection for a cancellation."""
    try:
        async for _ in response.aiter_raw():
            pass
    except (httpx.HTTPError, httpx.StreamError):
        pass  # the attempt is the agent's; how it ends, it reports


def _shown(endpoint: Endpoint) -> str:
    """Return an address as people may see it: without the password that may stand in it."""
    return _PASSWORD.sub("", endpoint.url or "")


def _said(error: httpx.HTTPError) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
