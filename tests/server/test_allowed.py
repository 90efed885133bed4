"""Where tasks may be sent: what is allowed is reached, and what is not never is."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx
import pytest
import trustme

from opscore_middleware.errors import ConfigurationError, EndpointNotAllowed
from opscore_middleware.server.allowed import Allowed, AllowedTransport

PERMITTED = [
    ("", "agent.example.com", "10.1.2.3"),
    ("", "localhost", "127.0.0.1"),
    ("", "localhost", "::1"),
    ("", "agent.example.com", "fd12::1"),
    ("*.example.com", "agent.example.com", "203.0.113.7"),
    ("AGENT.example.com.", "agent.EXAMPLE.com", "203.0.113.7"),
    ("10.0.0.0/8", "10.1.2.3", "10.1.2.3"),
    ("10.0.0.0/8,agents", "agents", "192.168.0.1"),
    ("fd12::/16", "a", "fd12::1"),
    ("10.0.0.0/8", "a", "::ffff:10.1.2.3"),
    ("::ffff:10.0.0.0/104", "a", "10.1.2.3"),
    ("[::ffff:10.1.2.3]", "a", "10.1.2.3"),
    ("64:ff9b::10.0.0.0/104", "a", "64:ff9b::10.1.2.3"),
    ("::/0", "a", "fd12::1"),
    ("169.254.10.0/24", "a", "169.254.10.7"),
    ("fe80::/10", "a", "fe80::1%lo"),
]
REFUSED = [
    ("", "a", "169.254.169.254"),
    ("", "a", "169.254.0.1"),
    ("", "a", "fe80::1"),
    ("", "a", "fe80::1%lo"),
    ("", "a", "fd00:ec2::254"),
    ("", "a", "100.100.100.200"),
    ("", "a", "0.0.0.0"),
    ("", "a", "::"),
    ("", "a", "224.0.0.1"),
    ("", "a", "ff02::1"),
    ("", "a", "255.255.255.255"),
    ("", "a", "::ffff:169.254.169.254"),
    ("", "a", "64:ff9b::a9fe:a9fe"),
    ("", "a", "64:ff9b:1::a9fe:a9fe"),
    ("", "a", "::ffff:0:169.254.169.254"),
    ("", "a", "2002:a9fe:a9fe::1"),
    ("0.0.0.0/0,::/0", "a", "169.254.169.254"),
    ("169.254.10.0/24", "a", "169.254.169.254"),
    ("*", "a", "169.254.169.254"),
    ("*.example.com", "example.com", "203.0.113.7"),
    ("*.example.com", "agent.example.com.evil.net", "203.0.113.7"),
    ("10.0.0.0/8", "agent.example.com", "203.0.113.7"),
    ("10.0.0.0/8", "a", "fd12::1"),
    ("::ffff:10.0.0.0/104", "a", "11.1.2.3"),
    ("2002::/96", "a", "10.1.2.3"),
]


@pytest.mark.parametrize(("setting", "host", "address"), PERMITTED)
def test_what_is_allowed_may_be_reached(setting: str, host: str, address: str) -> None:
    assert Allowed.parse(setting).permits(host, address)


@pytest.mark.parametrize(("setting", "host", "address"), REFUSED)
def test_what_is_not_allowed_may_not(setting: str, host: str, address: str) -> None:
    assert not Allowed.parse(setting).permits(host, address)


@pytest.mark.parametrize("entry", ["http://agents", "agents:8000", "10.0.0.0/33", "a b", "me@host"])
def test_a_setting_that_is_no_host_or_network_is_named(entry: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Allowed.parse(f"agents.example.com, {entry}")
    assert f"OPSCORE_ALLOWED_ENDPOINTS: {entry!r} is no host" in caught.value.message


def test_a_network_with_bits_after_its_prefix_is_told_how_to_be_written() -> None:
    with pytest.raises(ConfigurationError, match=r"write 10\.0\.0\.0/8\.$"):
        Allowed.parse("10.0.0.1/8")


class Server:
    """Answers 200 to whoever connects, and counts them."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()


@asynccontextmanager
async def listening(
    host: str = "127.0.0.1", *, context: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    answering = Server()
    async with await asyncio.start_server(answering.serve, host, 0, ssl=context) as server:
        answering.port = server.sockets[0].getsockname()[1]
        yield answering


def names(**addresses: Sequence[str]) -> AllowedTransport:
    """Return a transport to which every host has the addresses given under `addresses`."""
    return to(Allowed(), **addresses)


def to(
    allowed: Allowed, *, inner: httpx.AsyncBaseTransport | None = None, **addresses: Sequence[str]
) -> AllowedTransport:
    async def resolve(host: str, port: int) -> Sequence[str]:
        if host not in addresses:
            raise OSError(f"nobody is called {host}")
        return addresses[host]

    return AllowedTransport(allowed, resolve=resolve, inner=inner)


async def get(transport: httpx.AsyncBaseTransport, url: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=transport) as client:
        return await client.get(url)


@pytest.mark.asyncio
async def test_a_request_arrives_under_the_name_that_it_was_sent_to() -> None:
    async with listening() as server:
        answer = await get(names(agent=["127.0.0.1"]), f"http://agent:{server.port}/task")
    assert answer.status_code == 200
    assert f"Host: agent:{server.port}\r\n".encode() in server.requests[0]


@pytest.mark.asyncio
async def test_an_agent_on_ipv6_is_reached() -> None:
    async with listening("::1") as server:
        answer = await get(names(agent=["::1"]), f"http://agent:{server.port}/")
        literal = await get(AllowedTransport(Allowed()), f"http://[::1]:{server.port}/")
    assert answer.status_code == literal.status_code == 200


@pytest.mark.asyncio
async def test_the_next_address_is_tried_where_the_first_does_not_listen() -> None:
    async with listening() as server:
        transport = names(agent=["::1", "127.0.0.1"])
        answer = await get(transport, f"http://agent:{server.port}/")
    assert answer.status_code == 200


@pytest.mark.asyncio
async def test_a_name_that_resolves_to_a_forbidden_address_is_never_connected_to() -> None:
    async with listening() as server:
        transport = to(Allowed.parse("10.0.0.0/8"), agent=["127.0.0.1"])
        with pytest.raises(EndpointNotAllowed) as caught:
            await get(transport, f"http://agent:{server.port}/")
    assert server.requests == []
    assert caught.value.message.startswith(
        "Tasks may not be sent to agent: it is at 127.0.0.1, which is not allowed. "
        "Allow it with OPSCORE_ALLOWED"
    )


@pytest.mark.asyncio
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_an_address_that_is_refused_is_not_said_twice(host: str) -> None:
    with pytest.raises(EndpointNotAllowed) as caught:
        await get(AllowedTransport(Allowed.parse("10.0.0.0/8")), f"http://{host}:9/")
    assert caught.value.message.count(host.strip("[]")) == 1


@pytest.mark.asyncio
async def test_a_name_that_changes_its_address_after_the_look_is_not_followed() -> None:
    answers = iter([["127.0.0.1"], ["169.254.169.254"]])

    async def rebound(host: str, port: int) -> Sequence[str]:
        return next(answers)

    async with listening() as server:
        transport = AllowedTransport(Allowed(), resolve=rebound)
        async with httpx.AsyncClient(transport=transport) as client:
            url = f"http://agent:{server.port}/"
            assert (await client.get(url)).status_code == 200
            with pytest.raises(EndpointNotAllowed):
                await client.get(url)
    assert len(server.requests) == 1


@pytest.mark.asyncio
async def test_of_several_addresses_the_forbidden_ones_are_passed_over() -> None:
    async with listening() as server:
        transport = names(agent=["169.254.169.254", "127.0.0.1"])
        assert (await get(transport, f"http://agent:{server.port}/")).status_code == 200


@pytest.mark.asyncio
@pytest.mark.parametrize("spelled", ["2852039166", "0xa9fea9fe"])
async def test_a_disguised_address_is_known_for_what_it_is(spelled: str) -> None:
    with pytest.raises(EndpointNotAllowed) as caught:
        await get(AllowedTransport(Allowed()), f"http://{spelled}/latest/meta-data")
    assert "169.254.169.254" in caught.value.message


@pytest.mark.asyncio
async def test_the_metadata_server_is_refused_by_name_too() -> None:
    transport = names(**{"metadata.google.internal": ["127.0.0.1"]})
    with pytest.raises(EndpointNotAllowed):
        await get(transport, "http://metadata.google.internal/")


@pytest.mark.asyncio
async def test_a_name_that_nobody_has_is_a_failure_to_connect() -> None:
    with pytest.raises(httpx.ConnectError) as caught:
        await get(names(), "http://nobody/")
    assert "nobody cannot be resolved" in str(caught.value)


@pytest.mark.asyncio
async def test_a_resolver_that_hangs_is_given_up() -> None:
    async def hang(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    transport = AllowedTransport(Allowed(), resolve=hang)
    async with httpx.AsyncClient(transport=transport, timeout=0.02) as client:
        with pytest.raises(httpx.ConnectTimeout):
            await client.get("http://agent/")


@pytest.mark.asyncio
async def test_a_certificate_is_held_against_the_name_and_not_the_address() -> None:
    authority = trustme.CA()
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("agent.test").configure_cert(server_side)
    client_side = ssl.create_default_context()
    authority.configure_trust(client_side)
    addresses = {"agent.test": ["127.0.0.1"], "other.test": ["127.0.0.1"]}
    async with listening(context=server_side) as server:
        trusting = to(Allowed(), inner=httpx.AsyncHTTPTransport(verify=client_side), **addresses)
        answer = await get(trusting, f"https://agent.test:{server.port}/")
        with pytest.raises(httpx.ConnectError) as mismatch:
            await get(trusting, f"https://other.test:{server.port}/")
        with pytest.raises(httpx.ConnectError) as untrusted:
            await get(names(**addresses), f"https://agent.test:{server.port}/")
    assert answer.status_code == 200
    assert "Hostname mismatch" in str(mismatch.value)
    assert "CERTIFICATE_VERIFY_FAILED" in str(untrusted.value)
