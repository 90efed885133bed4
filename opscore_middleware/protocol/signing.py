"""AgentKit's webhook signature: made, and held against every secret that is in force."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from opscore_middleware.core.clock import SECOND, to_micros
from opscore_middleware.errors import (
    InvalidSignature,
    MissingSignature,
    StaleSignature,
    WebhookSecretRequired,
)

__all__ = ["SIGNATURE_HEADER", "TIMESTAMP_HEADER", "TOLERANCE", "Signature", "sign", "verify"]

TIMESTAMP_HEADER: Final = "X-AgentKit-Timestamp"
SIGNATURE_HEADER: Final = "X-AgentKit-Signature"

TOLERANCE: Final = 300 * SECOND
"""How far a signature's timestamp may be from now, in microseconds, on either side."""

_UNIX_SECONDS: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?", re.ASCII)


class Signature(NamedTuple):
    """A signature that was found good, and when it was made, in microseconds since the epoch."""

    value: str
    signed_at: int


def sign(body: bytes, timestamp: str, secret: str) -> str:
    """Sign a webhook's raw body: the lower-case hex HMAC-SHA256 of `timestamp`, a dot and `body`.

    `timestamp` is the text of the timestamp header, exactly as it is sent.
    """
    signed = _header_bytes(timestamp) + b"." + body
    return hmac.new(secret.encode("utf-8", "surrogateescape"), signed, hashlib.sha256).hexdigest()


def verify(
    body: bytes, headers: Mapping[str, str], *, secrets: Sequence[str], now: int
) -> Signature:
    """Hold a webhook against every secret in force, in constant time, on its raw bytes.

    Headers are matched without regard to case; empty secrets are none. `now` is in microseconds
    since the Unix epoch. Raises `WebhookSecretRequired`, `MissingSignature`, `InvalidSignature`
    or `StaleSignature`.
    """
    in_force = [secret for secret in secrets if secret.strip()]
    if not in_force:
        raise WebhookSecretRequired(
            "No secret to verify AgentKit's webhook with: set OPSCORE_WEBHOOK_SECRET to the one "
            "that AgentKit signs with, or OPSCORE_WEBHOOK_INSECURE=1 to take webhooks unsigned."
        )
    given = {name.lower(): value for name, value in headers.items()}
    timestamp = _present(given, TIMESTAMP_HEADER)
    signature = _present(given, SIGNATURE_HEADER)
    received = _header_bytes(signature)
    # Every secret is tried, whether or not one has fitted, so that time tells nothing.
    fits = [
        hmac.compare_digest(sign(body, timestamp, secret).encode(), received) for secret in in_force
    ]
    if not any(fits):
        raise InvalidSignature(
            f"{SIGNATURE_HEADER} does not fit this body under any of the {len(fits)} configured "
            "secret(s); OPSCORE_WEBHOOK_SECRET must be the same on AgentKit and here."
        )
    signed_at = _moment(timestamp)
    if abs(signed_at - now) > TOLERANCE:
        raise StaleSignature(
            f"{TIMESTAMP_HEADER} {timestamp!r} is {abs(signed_at - now) / SECOND:.0f} s "
            f"{'behind' if signed_at < now else 'ahead of'} this server's clock; at most "
            f"{TOLERANCE // SECOND} s are allowed. Check the clocks of both machines.",
            timestamp=timestamp,
        )
    return Signature(signature, signed_at)


def _present(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name.lower())
    if not value:
        raise MissingSignature(
            f"The {name} header is missing; AgentKit sends it when its OPSCORE_WEBHOOK_SECRET "
            "is set.",
            header=name,
        )
    return value


def _header_bytes(value: str) -> bytes:
    # Servers hand headers over as Latin-1; what is not Latin-1 cannot have come over the wire.
    return value.encode("latin-1", "backslashreplace")


def _moment(timestamp: str) -> int:
    """Read unix seconds or an aware ISO 8601 time, as microseconds since the epoch."""
    if _UNIX_SECONDS.fullmatch(timestamp):
        whole, _, fraction = timestamp.partition(".")
        return int(whole) * SECOND + int(fraction[:6].ljust(6, "0"))
    try:
        moment = datetime.fromisoformat(timestamp)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidSignature(
            f"{TIMESTAMP_HEADER} {timestamp!r} is neither unix seconds nor an ISO 8601 time with "
            "an offset.",
            timestamp=timestamp,
        )
    return to_micros(moment)
