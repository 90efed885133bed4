"""Where Ops-Core may send tasks: what the operator allows, and never where clouds keep secrets."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

import httpx

from opscore_middleware.errors import ConfigurationError, EndpointNotAllowed

__all__ = ["Allowed", "AllowedTransport", "Resolve", "resolve"]

_SETTING: Final = "OPSCORE_ALLOWED_ENDPOINTS"
_MOST_ADDRESSES: Final = 4
"""How many addresses of one name are tried."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the addresses of a host's name, for a port; raises `OSError` where it has none."""

# Where nobody's agent is: this network, link-local addresses with the metadata of most clouds, the
# metadata of the others, multicast and broadcast.
_NEVER: Final[tuple[Network, ...]] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "169.254.0.0/16",
        "100.100.100.200/32",
        "168.63.129.16/32",
        "192.0.0.192/32",
        "224.0.0.0/4",
        "255.255.255.255/32",
        "::/128",
        "fe80::/10",
        "fd00:ec2::254/128",
        "fd20:ce::254/128",
        "ff00::/8",
    )
)
_NEVER_NAMES: Final = frozenset({"metadata", "metadata.google.internal"})
_WRAPPED: Final = tuple(
    ipaddress.IPv6Network(text)
    for text in ("::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/96", "::ffff:0:0:0/96")
)
"""Where all of IPv4 is in IPv6: as sockets of both say it, and where translators put it."""


class Allowed(NamedTuple):
    """Hosts and networks that tasks may be sent to; everything that is harmless without any."""

    names: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Allowed:
        """Read hosts, patterns of hosts, addresses and networks, separated by commas.

        Raises `ConfigurationError` for what is none of them.
        """
        names: list[str] = []
        networks: list[Network] = []
        for entry in filter(None, (part.strip() for part in text.split(","))):
            network = _network(entry)
            if network is not None:
                networks.append(network)
            elif set("/:@ ") & set(entry):
                raise ConfigurationError(
                    f"{_SETTING}: {entry!r} is no host, pattern of hosts or network; "
                    + _meant(entry),
                    setting=_SETTING,
                )
            else:
                names.append(_plain(entry))
        return cls(tuple(names), tuple(networks))

    def require_name(self, host: str) -> None:
        """Raise `EndpointNotAllowed` for a name that is refused whatever its addresses are."""
        if _plain(host) in _NEVER_NAMES:
            raise _refusal(host, "it is where a cloud keeps what only this machine may know")

    def permits(self, host: str, address: str) -> bool:
        """Tell whether tasks may be sent to a host that has this address."""
        found = _inner(ipaddress.ip_address(address.partition("%")[0]))
        never = next((network for network in _NEVER if found in network), None)
        if never is not None:
            # Only for those who name it: not because they allow every address there is.
            return any(found in own and _within(own, never) for own in self.networks)
        if not self.names and not self.networks:
            return True
        return any(found in network for network in self.networks) or any(
            fnmatchcase(_plain(host), pattern) for pattern in self.names
        )


async def resolve(host: str, port: int) -> Sequence[str]:
    """Ask the system for a host's addresses."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class AllowedTransport(httpx.AsyncBaseTransport):
    """Connects to addresses that are allowed, and to none that a name may have a moment later.

    The name is resolved here, once, and the connection made to the address that was looked at; the
    certificate is held against the name. Each request has a connection of its own: one that is kept
    would be found by its address, for whatever name shares it.

    Args:
        allowed: what may be reached.
        resolve: returns a host's addresses.
        inner: carries the requests; httpx's own by default.
    """

    def __init__(
        self,
        allowed: Allowed,
        *,
        resolve: Resolve = resolve,
        inner: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._allowed = allowed
        self._resolve = resolve
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        # The environment's proxies would resolve the name again, and its netrc add passwords.
        self._inner = inner or httpx.AsyncHTTPTransport(limits=limits, trust_env=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request. Raises `EndpointNotAllowed`, or what httpx raises."""
        last: httpx.ConnectError | httpx.ConnectTimeout | None = None
        for address in await self._addresses(request):
            try:
                return await self._inner.handle_async_request(_at(request, address))
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                last = error
        raise last or httpx.ConnectError("the name has no address", request=request)

    async def aclose(self) -> None:
        """Let go of every connection."""
        await self._inner.aclose()

    async def _addresses(self, request: httpx.Request) -> Sequence[str]:
        host = request.url.host
        port = request.url.port or {"https": 443}.get(request.url.scheme, 80)
        self._allowed.require_name(host)
        patience = request.extensions.get("timeout", {}).get("connect")
        try:
            async with asyncio.timeout(patience):
                found = await self._resolve(host, port)
        except TimeoutError:
            raise httpx.ConnectTimeout(f"resolving {host} took too long", request=request) from None
        except (OSError, UnicodeError) as error:
            raise httpx.ConnectError(f"{host} cannot be resolved: {error}") from error
        permitted = [address for address in found if self._allowed.permits(host, address)]
        if found and not permitted:
            literal = list(found) == [host.strip("[]")]
            named = ", ".join(found[:_MOST_ADDRESSES])
            at = "the address" if literal else f"it is at {named}, which"
            raise _refusal(host, f"{at} is not allowed")
        return permitted[:_MOST_ADDRESSES]


def _at(request: httpx.Request, address: str) -> httpx.Request:
    """Return the request as it goes to one address, the name kept for the host and its
    certificate."""
    if address == request.url.host:
        return request
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": request.url.host},
    )


def _network(entry: str, *, strict: bool = True) -> Network | None:
    try:
        network = ipaddress.ip_network(entry.strip("[]"), strict=strict)
    except ValueError:
        return None
    if isinstance(network, ipaddress.IPv6Network) and any(map(network.subnet_of, _WRAPPED)):
        # As addresses are looked at: by what is in them.
        return ipaddress.IPv4Network((_low(network.network_address), network.prefixlen - 96))
    return network


def _meant(entry: str) -> str:
    network = _network(entry, strict=False)
    if network is not None:
        return f"a network has zeros after its prefix: write {network}."
    return (
        "write for example agents.example.com, *.agents.svc or 10.0.0.0/8, without a scheme or a "
        "port."
    )


def _plain(host: str) -> str:
    return host.lower().rstrip(".")


def _within(network: Network, other: Network) -> bool:
    if isinstance(network, ipaddress.IPv4Network):
        return isinstance(other, ipaddress.IPv4Network) and network.subnet_of(other)
    return isinstance(other, ipaddress.IPv6Network) and network.subnet_of(other)


def _inner(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address only wraps, where it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if any(address in network for network in _WRAPPED):
        return _low(address)
    return address.sixtofour or address


def _low(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)


def _refusal(host: str, reason: str) -> EndpointNotAllowed:
    return EndpointNotAllowed(
        f"Tasks may not be sent to {host}: {reason}. Allow it with {_SETTING} if it is an agent's.",
        host=host,
    )
