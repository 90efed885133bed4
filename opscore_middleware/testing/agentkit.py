"""A simulated AgentKit: what agents and Ops-Core see of the real one, its faults included.

It is an ASGI app for asyncio, to be reached in process or served by any server:

    kit = SimulatedAgentKit(webhook_url="http://127.0.0.1:8000/…/notify", secret="…")
    async with kit, AsyncAgentKit("http://agentkit", transport=kit.transport()) as client:
        agent_id = await client.register(registration)
        (webhook,) = await kit.webhooks_sent()
        kit.quirks = Quirks(accepts_and_never_forwards=True)
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeVar

import httpx
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from opscore_middleware.core.clock import SECOND, Clock, from_micros, system_clock
from opscore_middleware.protocol.signing import SIGNATURE_HEADER, TIMESTAMP_HEADER, sign
from opscore_middleware.testing.agentkit_bodies import (
    AgentInfo,
    MessagePayload,
    RegistrationPayload,
    compact,
    read_body,
)
from opscore_middleware.testing.agentkit_delivery import Delivery, Sent

__all__ = ["Quirks", "ReceivedMessage", "SimulatedAgentKit"]

T = TypeVar("T")
_WEBHOOK_TIMEOUT: Final = 10.0
_FORWARD_TIMEOUT: Final = 15.0
_WAIT: Final = 5.0


@dataclass(frozen=True, slots=True)
class Quirks:
    """How this AgentKit differs from one that always works; may be replaced while it runs.

    A request meets those in force as it arrives, with all that follows from it.

    Args:
        forgets_on_restart: its registry lives in memory, as in the field.
        accepts_and_never_forwards: `/run` answers 202, and the agent never hears of it.
        no_webhook_with_metadata: an agent registered with metadata is never told to Ops-Core.
        empty_metadata_without_time: the webhook has `"metadata":{}` and no time of registration.
        webhook_delay: seconds between the 201 and the webhook.
        webhook_lost: webhooks are never sent.
        wrong_signature: webhooks are signed with another secret.
        lists_agents: a newer version, with `GET /v1/agents` and `/health`.
        hang: seconds for which every request is held, to be hung up on without an answer; 15 is
            what a stuck AgentKit shows.
        forward_timeout: seconds after which it hangs up on an agent that has not answered.
        down: nobody can connect; where it is served, 503, as from a proxy before it.
    """

    forgets_on_restart: bool = True
    accepts_and_never_forwards: bool = False
    no_webhook_with_metadata: bool = False
    empty_metadata_without_time: bool = False
    webhook_delay: float = 0.0
    webhook_lost: bool = False
    wrong_signature: bool = False
    lists_agents: bool = False
    hang: float = 0.0
    forward_timeout: float = _FORWARD_TIMEOUT
    down: bool = False


class ReceivedMessage(NamedTuple):
    """A message that `/run` accepted, as AgentKit rebuilt it."""

    agent_id: str
    body: dict[str, Any]


class SimulatedAgentKit:
    """AgentKit as an ASGI app.

    Args:
        webhook_url: where registrations are told; without it or `secret`, nowhere.
        secret: what webhooks are signed with.
        quirks: how it differs from one that always works.
        transport: carries its webhooks and forwards; httpx's own by default. Closed with it.
        clock: returns now, in microseconds since the Unix epoch.
        tools: results of `tool_invocation` by tool name; one with `"status": "error"` is a
            failure.

    `agents`, `messages`, `webhooks` and `forwarded` hold what came and went, oldest first. They
    may be read, and `quirks` and `secret` replaced, from any thread.
    """

    def __init__(
        self,
        *,
        webhook_url: str | None = None,
        secret: str | None = None,
        quirks: Quirks | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Clock = system_clock,
        tools: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.webhook_url = webhook_url
        self.secret = secret
        self.quirks = quirks or Quirks()
        self.agents: dict[str, AgentInfo] = {}
        self.messages: list[ReceivedMessage] = []
        self.webhooks: list[Sent] = []
        self.forwarded: list[Sent] = []
        self._clock = clock
        self._tools = dict(tools or {})
        self._delivery = Delivery(transport)
        self._changed = threading.Condition()
        self._app = self._routes()

    # --- serving ---

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "http" and self.quirks.down:
            unavailable = JSONResponse({"detail": "Service Unavailable"}, status_code=503)
            await unavailable(scope, receive, send)
        elif scope["type"] == "http" and self.quirks.hang:
            await asyncio.sleep(self.quirks.hang)
            # A response that is begun and never ended makes the server close the connection.
            headers = [(b"content-length", b"1")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        else:
            await self._app(scope, receive, send)

    def transport(self) -> httpx.AsyncBaseTransport:
        """Return what lets an `httpx.AsyncClient` reach this AgentKit in process.

        Unlike httpx's own for ASGI apps it keeps the read timeout, and `down` and `hang` look as
        they do on a network.
        """
        return _InProcess(self, self._app)

    def restart(self) -> None:
        """Start anew: the registry is empty, and what was still to be sent never is."""
        if self.quirks.forgets_on_restart:
            self.agents.clear()
        self._delivery.drop()

    async def close(self) -> None:
        """Drop what is still to be sent and let go of every connection; it can be served again."""
        await self._delivery.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    # --- waiting for what goes on behind an answer ---

    def wait(self, condition: Callable[[], T], *, timeout: float = _WAIT) -> T:
        """Block this thread until `condition` is true of what was recorded; return its answer.

        For callers outside AgentKit's loop. Raises `TimeoutError` after `timeout` seconds.
        """
        with self._changed:
            answer = self._changed.wait_for(condition, timeout)
        if not answer:
            raise TimeoutError(
                f"AgentKit did not come to it in {timeout:g} s: {len(self.webhooks)} webhooks and "
                f"{len(self.forwarded)} forwards were made, {len(self.messages)} messages taken."
            )
        return answer

    async def webhooks_sent(self, count: int = 1, *, timeout: float = _WAIT) -> list[Sent]:
        """Wait until `count` webhooks were sent and answered, or failed; return them all."""
        await asyncio.to_thread(self.wait, lambda: len(self.webhooks) >= count, timeout=timeout)
        return list(self.webhooks)

    async def forwards_made(self, count: int = 1, *, timeout: float = _WAIT) -> list[Sent]:
        """Wait until `count` messages were forwarded and answered, or failed; return them all."""
        await asyncio.to_thread(self.wait, lambda: len(self.forwarded) >= count, timeout=timeout)
        return list(self.forwarded)

    # --- its routes ---

    def _routes(self) -> Starlette:
        @asynccontextmanager
        async def lifespan(_app: Starlette) -> AsyncIterator[None]:
            yield
            await self.close()

        return Starlette(
            routes=[
                Route("/", self._root),
                Route("/health", self._health),
                Route("/v1/agents", self._list),
                Route("/v1/agents/register", self._register, methods=["POST"]),
                Route("/v1/agents/{agent_id}/run", self._run, methods=["POST"]),
            ],
            exception_handlers={HTTPException: _refuse},
            lifespan=lifespan,
        )

    async def _root(self, _request: Request) -> Response:
        return JSONResponse({"message": "Welcome to AgentKit API"})

    async def _health(self, _request: Request) -> Response:
        if not self.quirks.lists_agents:
            raise HTTPException(404)
        return JSONResponse({"status": "ok"})

    async def _list(self, _request: Request) -> Response:
        if not self.quirks.lists_agents:
            raise HTTPException(404)
        listed = [agent.details() for agent in tuple(self.agents.values())]
        return JSONResponse({"status": "success", "data": listed})

    async def _register(self, request: Request) -> Response:
        payload = read_body(RegistrationPayload, await request.body())
        if isinstance(payload, list):
            return JSONResponse({"detail": payload}, status_code=422)
        if any(agent.agent_name == payload.agent_name for agent in tuple(self.agents.values())):
            raise HTTPException(409, f"Agent with name '{payload.agent_name}' already registered.")
        agent = AgentInfo(
            **dict(payload),
            agent_id=str(uuid.uuid4()),
            registration_time=from_micros(self._clock()),
        )
        with self._changed:
            self.agents[agent.agent_id] = agent
            self._changed.notify_all()
        return _envelope(
            201,
            message=f"Agent '{agent.agent_name}' registered successfully.",
            data={"agentId": agent.agent_id},
            background=self._telling(agent),
        )

    async def _run(self, request: Request) -> Response:
        agent_id = request.path_params["agent_id"]
        payload = read_body(MessagePayload, await request.body())
        if isinstance(payload, list):
            return JSONResponse({"detail": payload}, status_code=422)
        agent = self.agents.get(agent_id)
        if agent is None:
            raise HTTPException(404, f"Agent with ID '{agent_id}' not found.")
        if payload.message_type == "tool_invocation":
            return self._invoke_tool(payload)
        if payload.timestamp is None:
            payload = payload.model_copy(update={"timestamp": from_micros(self._clock())})
        body = payload.model_dump(mode="json", by_alias=True)
        self._note(self.messages, ReceivedMessage(agent_id, body))
        return _envelope(
            202,
            message=f"Task accepted for agent {agent_id}. Dispatch scheduled.",
            data={"agentId": agent_id, "dispatch_status": "scheduled"},
            background=self._forwarding(agent, body),
        )

    def _invoke_tool(self, payload: MessagePayload) -> Response:
        name = payload.payload.get("tool_name")
        if not name:
            raise HTTPException(
                400, "Missing 'tool_name' in payload for tool_invocation message type."
            )
        result = self._tools.get(name)
        if result is None:
            raise HTTPException(404, f"Tool '{name}' not found in registry (local or external).")
        if result.get("status") != "error":
            message = f"Local tool '{name}' executed successfully."
            return _envelope(202, message=message, data=dict(result))
        reason = result.get("error_message", "Unknown tool error")
        return _envelope(
            202,
            message=f"Local tool '{name}' execution failed: {reason}",
            data=dict(result),
            error_code="LOCAL_TOOL_EXECUTION_FAILED",
        )

    # --- what it does behind its answers, once ---

    def _telling(self, agent: AgentInfo) -> BackgroundTask | None:
        quirks, url, secret = self.quirks, self.webhook_url, self.secret
        untold = quirks.no_webhook_with_metadata and agent.metadata is not None
        if quirks.webhook_lost or untold or not url or not secret:
            return None
        details = agent.details(empty_metadata_without_time=quirks.empty_metadata_without_time)
        body = compact({"event_type": "REGISTER", "agent_details": details}, ascii_only=True)
        key = f"not {secret}" if quirks.wrong_signature else secret
        return BackgroundTask(self._delivery.start, self._tell, url, body, key, quirks)

    async def _tell(self, url: str, body: bytes, key: str, quirks: Quirks) -> None:
        await asyncio.sleep(quirks.webhook_delay)
        timestamp = str(self._clock() // SECOND)
        headers = {TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: sign(body, timestamp, key)}
        sent = await self._delivery.post(url, body, headers, timeout=_WEBHOOK_TIMEOUT)
        self._note(self.webhooks, sent)

    def _forwarding(self, agent: AgentInfo, message: dict[str, Any]) -> BackgroundTask | None:
        if self.quirks.accepts_and_never_forwards:
            return None
        url, body = str(agent.contact_endpoint), compact(message, ascii_only=False)
        timeout = self.quirks.forward_timeout
        return BackgroundTask(self._delivery.start, self._forward, url, body, timeout)

    async def _forward(self, url: str, body: bytes, timeout: float) -> None:
        sent = await self._delivery.post(url, body, {}, timeout=timeout)
        self._note(self.forwarded, sent)

    def _note(self, record: list[T], item: T) -> None:
        with self._changed:
            record.append(item)
            self._changed.notify_all()


class _InProcess(httpx.AsyncBaseTransport):
    def __init__(self, kit: SimulatedAgentKit, app: ASGIApp) -> None:
        self._kit = kit
        self._asgi = httpx.ASGITransport(app)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        quirks = self._kit.quirks
        if quirks.down:
            raise httpx.ConnectError("All connection attempts failed", request=request)
        patience: float | None = request.extensions.get("timeout", {}).get("read")
        try:
            async with asyncio.timeout(patience):
                if quirks.hang:
                    await asyncio.sleep(quirks.hang)
                    raise httpx.RemoteProtocolError(
                        "Server disconnected without sending a response.", request=request
                    )
                return await self._asgi.handle_async_request(request)
        except TimeoutError:
            raise httpx.ReadTimeout("", request=request) from None


def _envelope(
    status: int,
    *,
    message: str,
    data: Any,
    error_code: str | None = None,
    background: BackgroundTask | None = None,
) -> Response:
    return JSONResponse(
        {
            "status": "success" if error_code is None else "error",
            "message": message,
            "data": data,
            "error_code": error_code,
        },
        status_code=status,
        background=background,
    )


async def _refuse(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return JSONResponse({"detail": error.detail}, error.status_code, headers=error.headers)
