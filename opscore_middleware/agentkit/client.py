"""AgentKit's API: each call as a value, and a sync and an async client that send them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import aclosing, closing
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from opscore_middleware.agentkit.models import AgentDetails, Message, RunAccepted
from opscore_middleware.core.models import Registration
from opscore_middleware.core.own import Own
from opscore_middleware.errors import (
    AgentNameTaken,
    AgentUnknownToAgentKit,
    ConfigurationError,
    MessageRefused,
    RemoteError,
    RemoteUnavailable,
)
from opscore_middleware.protocol.address import base_url
from opscore_middleware.protocol.call import Call
from opscore_middleware.protocol.surroundings import made

__all__ = ["AgentKit", "AsyncAgentKit", "list_agents", "ping", "register_agent", "run_message"]

T = TypeVar("T")
_SETTING: Final = "AGENTKIT_API_URL"
_JSON: Final = MappingProxyType({"Content-Type": "application/json"})
_TIMEOUT: Final = 10.0  # seconds; AgentKit answers before it forwards anything
_LONGEST_ANSWER: Final = 16 << 20
"""How much of an answer is read, in bytes: a list of some ten thousand agents."""
# What is packed may unpack to more than fits in memory.
_ACCEPTED: Final = MappingProxyType({"Accept-Encoding": "identity"})


# --- the calls -----------------------------------------------------------------------------------


def register_agent(registration: Registration) -> Call[str]:
    """Register an agent; the result is the id that AgentKit made for it, new each time.

    Raises `ConfigurationError` without a contact endpoint, which AgentKit demands. The call's
    refusals are `AgentNameTaken` (409, also for the same agent after a restart) and `RemoteError`.
    """
    if registration.contact_endpoint is None:
        raise ConfigurationError(
            f"Agent {registration.agent_name!r} has no contact endpoint, and AgentKit registers "
            "none without: set OPSCORE_CONTACT_ENDPOINT to the address it takes tasks at.",
            setting="OPSCORE_CONTACT_ENDPOINT",
        )
    body = registration.model_dump_json(
        by_alias=True,
        include={"agent_name", "capabilities", "version", "contact_endpoint", "metadata"},
        # Some versions send no webhook for an agent with metadata, so none is not sent as null.
        exclude={"metadata"} if registration.metadata is None else None,
    )
    return _call(
        "POST", "/v1/agents/register", _registered_id, body.encode(), {409: AgentNameTaken}
    )


def list_agents() -> Call[list[AgentDetails] | None]:
    """List the agents of a newer AgentKit; None where this one does not list any (404)."""
    return _call("GET", "/v1/agents", _listed, answers={404: None, 405: None})


def run_message(agent_id: str, message: Message) -> Call[RunAccepted]:
    """Hand AgentKit a message to forward. Its answer is no delivery.

    The call's refusals are `AgentUnknownToAgentKit` (404) and `MessageRefused`, also for a 2xx
    whose body says `"status": "error"`.
    """
    # For a tool, 404 may as well mean that there is no such tool.
    known_kinds = {} if message.message_type == "tool_invocation" else {404: AgentUnknownToAgentKit}
    return _call(
        "POST",
        f"/v1/agents/{quote(agent_id, safe='')}/run",
        TypeAdapter(RunAccepted).validate_json,
        message.body(),
        known_kinds,
        otherwise=MessageRefused,
    )


def ping() -> Call[None]:
    """Ask whether AgentKit answers at all; `/health` exists on newer versions only."""
    return _call("GET", "/", _nothing)


class _Registered(BaseModel):
    agent_id: str = Field(alias="agentId")


class _RegisteredEnvelope(BaseModel):
    data: _Registered


class _ListEnvelope(BaseModel):
    data: list[Any]


def _registered_id(body: bytes) -> str:
    return _RegisteredEnvelope.model_validate_json(body).data.agent_id


def _listed(body: bytes) -> list[AgentDetails]:
    listed = _ListEnvelope.model_validate_json(body).data
    found = [agent for agent in map(_details, listed) if agent is not None]
    if listed and not found:
        raise ValueError("nothing of this list is an agent")
    return found


def _details(listed: Any) -> AgentDetails | None:
    """Return an agent; None for an entry that is none, which must not hide the others."""
    try:
        return AgentDetails.model_validate(listed)
    except ValidationError:
        return None


def _nothing(_body: bytes) -> None:
    return None


def _call(
    method: str,
    path: str,
    decode: Callable[[bytes], T],
    body: bytes | None = None,
    kinds: Mapping[int, type[RemoteError]] = MappingProxyType({}),
    *,
    otherwise: type[RemoteError] = RemoteError,
    answers: Mapping[int, T] = MappingProxyType({}),
) -> Call[T]:
    refusal = partial(_refusal, kinds=kinds, otherwise=otherwise)
    headers = {} if body is None else _JSON
    return Call(method, path, decode, body, headers, "AgentKit", answers, refusal)


def _refusal(
    call: Call[Any],
    status: int,
    body: bytes,
    *,
    kinds: Mapping[int, type[RemoteError]],
    otherwise: type[RemoteError],
) -> RemoteError | None:
    """Read both of AgentKit's envelopes: `{"detail"}`, and `{"status": "error", "error_code"}`."""
    answer = _object(body)
    accepted = 200 <= status < 300
    if accepted and answer.get("status") != "error":
        return None
    if 300 <= status < 400:
        reason = "it points elsewhere, and redirects are not followed; configure that address"
    else:
        reason = answer.get("detail") or answer.get("message") or "no reason given"
    code = answer.get("error_code")
    return kinds.get(status, otherwise)(
        f"AgentKit answered {call.method} {call.path} with {status}: {reason}",
        remote_status=status,
        remote_code=code if isinstance(code, str) else None,
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


# --- the clients ---------------------------------------------------------------------------------


class AgentKit:
    """A client of AgentKit's API.

    Args:
        url: where AgentKit is, with or without `/v1`.
        timeout: how long each step of a call may take, in seconds.
        transport: what carries the calls; httpx's own by default.

    Every call raises `RemoteUnavailable` when AgentKit does not answer, and `RemoteError` or one
    of its kinds when it refuses. Redirects are not followed.
    """

    def __init__(
        self, url: str, *, timeout: float = _TIMEOUT, transport: httpx.BaseTransport | None = None
    ) -> None:
        self.url = base_url(url, setting=_SETTING)
        self._http = Own(
            lambda: made(
                httpx.Client, self.url, timeout=timeout, transport=transport, headers=_ACCEPTED
            )
        )

    def register(self, registration: Registration) -> str:
        """Register an agent and return the id that AgentKit made. Raises `AgentNameTaken`."""
        return self._send(register_agent(registration))

    def agents(self) -> list[AgentDetails] | None:
        """List the registered agents, or return None where this AgentKit does not list any."""
        return self._send(list_agents())

    def run(self, agent_id: str, message: Message) -> RunAccepted:
        """Hand over a message. Raises `AgentUnknownToAgentKit` or `MessageRefused`."""
        return self._send(run_message(agent_id, message))

    def ping(self) -> None:
        """Return when AgentKit answers."""
        return self._send(ping())

    def close(self) -> None:
        """Let go of every connection."""
        self._http().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _send(self, call: Call[T]) -> T:
        http = self._http()
        request = http.build_request(
            call.method, self.url + call.path, content=call.body, headers=call.headers
        )
        body = bytearray()
        try:
            with closing(http.send(request, stream=True)) as answer:
                _refuse_packed(call, answer)
                for chunk in answer.iter_bytes():
                    body += chunk
                    _refuse_long(call, answer, body)
        except httpx.RequestError as error:
            raise _unavailable(self.url, call, error) from error
        return call.result(answer.status_code, bytes(body))


class AsyncAgentKit:
    """The same client for asyncio and trio; see `AgentKit`."""

    def __init__(
        self,
        url: str,
        *,
        timeout: float = _TIMEOUT,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = base_url(url, setting=_SETTING)
        self._http = Own(
            lambda: made(
                httpx.AsyncClient, self.url, timeout=timeout, transport=transport, headers=_ACCEPTED
            )
        )

    async def register(self, registration: Registration) -> str:
        """Register an agent and return the id that AgentKit made. Raises `AgentNameTaken`."""
        return await self._send(register_agent(registration))

    async def agents(self) -> list[AgentDetails] | None:
        """List the registered agents, or return None where this AgentKit does not list any."""
        return await self._send(list_agents())

    async def run(self, agent_id: str, message: Message) -> RunAccepted:
        """Hand over a message. Raises `AgentUnknownToAgentKit` or `MessageRefused`."""
        return await self._send(run_message(agent_id, message))

    async def ping(self) -> None:
        """Return when AgentKit answers."""
        return await self._send(ping())

    async def close(self) -> None:
        """Let go of every connection."""
        await self._http().aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _send(self, call: Call[T]) -> T:
        http = self._http()
        request = http.build_request(
            call.method, self.url + call.path, content=call.body, headers=call.headers
        )
        body = bytearray()
        try:
            async with aclosing(await http.send(request, stream=True)) as answer:
                _refuse_packed(call, answer)
                async for chunk in answer.aiter_bytes():
                    body += chunk
                    _refuse_long(call, answer, body)
        except httpx.RequestError as error:
            raise _unavailable(self.url, call, error) from error
        return call.result(answer.status_code, bytes(body))


def _refuse_packed(call: Call[Any], answer: httpx.Response) -> None:
    packing = answer.headers.get("content-encoding", "")
    if packing.strip().lower() not in {"", "identity"}:
        raise _unread(call, answer, f"packed as {packing[:100]!r}, which nobody asked for")


def _refuse_long(call: Call[Any], answer: httpx.Response, body: bytearray) -> None:
    if len(body) > _LONGEST_ANSWER:
        raise _unread(call, answer, f"with more than {_LONGEST_ANSWER >> 20} MiB")


def _unread(call: Call[Any], answer: httpx.Response, how: str) -> RemoteError:
    return RemoteError(
        f"{call.method} {call.path} was answered {answer.status_code} {how}, and is not read; "
        f"check {_SETTING}, and what stands before AgentKit.",
        remote_status=answer.status_code,
        remote_code=None,
    )


def _unavailable(url: str, call: Call[Any], error: httpx.RequestError) -> RemoteUnavailable:
    return RemoteUnavailable(
        f"AgentKit at {url} did not answer {call.method} {call.path} "
        f"({type(error).__name__}); is {_SETTING} right, and is it running?",
        url=url,
    )
