"""The signature: whatever was signed is found good, and nothing else is."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opscore_middleware.core.clock import SECOND
from opscore_middleware.errors import (
    InvalidSignature,
    MissingSignature,
    OpsCoreError,
    StaleSignature,
    WebhookSecretRequired,
)
from opscore_middleware.protocol.signing import (
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    TOLERANCE,
    sign,
    verify,
)
from tests.agentkit.support import NOW, SECRET, SIGNED_AT

bodies = st.binary(max_size=2000)
secrets = st.text(min_size=1, max_size=60).filter(str.strip)


def headers(body: bytes, *, timestamp: str = SIGNED_AT, secret: str = SECRET) -> dict[str, str]:
    return {TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: sign(body, timestamp, secret)}


def test_a_signature_is_the_hmac_of_timestamp_dot_body() -> None:
    expected = hmac.new(b"s", b"1795358656.{}", hashlib.sha256).hexdigest()
    assert sign(b"{}", "1795358656", "s") == expected


@given(body=bodies, secret=secrets)
def test_whatever_was_signed_is_found_good(body: bytes, secret: str) -> None:
    found = verify(body, headers(body, secret=secret), secrets=[secret], now=NOW)
    assert found.signed_at == NOW


@given(body=st.binary(min_size=1, max_size=500), data=st.data())
def test_a_single_changed_byte_is_refused(body: bytes, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(body) - 1))
    change = data.draw(st.integers(1, 255))
    changed = bytearray(body)
    changed[position] ^= change
    with pytest.raises(InvalidSignature):
        verify(bytes(changed), headers(body), secrets=[SECRET], now=NOW)


@given(body=bodies, in_force=st.lists(secrets, min_size=1, max_size=5, unique=True), data=st.data())
def test_every_secret_in_force_is_good_while_they_are_rotated(
    body: bytes, in_force: list[str], data: st.DataObject
) -> None:
    used = data.draw(st.sampled_from(in_force))
    assert verify(body, headers(body, secret=used), secrets=in_force, now=NOW)
    with pytest.raises(InvalidSignature):
        verify(body, headers(body, secret=f"{max(in_force)}, retired"), secrets=in_force, now=NOW)


@given(timestamp=st.text(max_size=40), signature=st.text(max_size=80), body=bodies)
def test_made_up_headers_are_refused_and_break_nothing(
    timestamp: str, signature: str, body: bytes
) -> None:
    made_up = {TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: signature}
    with pytest.raises(OpsCoreError) as refused:
        verify(body, made_up, secrets=[SECRET], now=NOW)
    assert refused.value.status == 401
    assert refused.value.code in {"missing_signature", "invalid_signature"}


@given(timestamp=st.text(min_size=1, max_size=40))
def test_any_signed_timestamp_is_good_stale_or_refused(timestamp: str) -> None:
    try:
        verify(b"{}", headers(b"{}", timestamp=timestamp), secrets=[SECRET], now=NOW)
    except (InvalidSignature, StaleSignature) as refused:
        assert refused.status == 401  # noqa: PT017 - either may come


@pytest.mark.parametrize(
    "timestamp",
    [
        "1795358656",
        "1795358656.0",
        "2026-11-22T14:44:16Z",
        "2026-11-22T14:44:16.000+00:00",
        "2026-11-22T16:44:16+02:00",
    ],
)
def test_unix_seconds_and_aware_iso_times_are_the_same_moment(timestamp: str) -> None:
    found = verify(b"{}", headers(b"{}", timestamp=timestamp), secrets=[SECRET], now=NOW)
    assert found.signed_at == NOW


@pytest.mark.parametrize("timestamp", ["2026-11-22T14:44:16", "yesterday", "1_795_358_656", "-5"])
def test_a_time_that_cannot_be_placed_is_refused(timestamp: str) -> None:
    with pytest.raises(InvalidSignature, match="neither unix seconds nor an ISO 8601 time"):
        verify(b"{}", headers(b"{}", timestamp=timestamp), secrets=[SECRET], now=NOW)


@pytest.mark.parametrize("side", [-1, 1])
def test_five_minutes_are_allowed_on_either_side_and_no_more(side: int) -> None:
    good = headers(b"{}")
    verify(b"{}", good, secrets=[SECRET], now=NOW + side * TOLERANCE)
    with pytest.raises(StaleSignature) as refused:
        verify(b"{}", good, secrets=[SECRET], now=NOW + side * (TOLERANCE + SECOND))
    assert refused.value.code == "stale_signature"
    assert refused.value.status == 401
    assert "301 s" in refused.value.message


def test_a_forged_timestamp_is_refused_before_its_age_is_looked_at() -> None:
    old = {**headers(b"{}"), TIMESTAMP_HEADER: "1"}
    with pytest.raises(InvalidSignature):
        verify(b"{}", old, secrets=[SECRET], now=NOW)


@pytest.mark.parametrize("missing", [TIMESTAMP_HEADER, SIGNATURE_HEADER])
@pytest.mark.parametrize("empty", [True, False])
def test_a_missing_or_empty_header_is_named(missing: str, empty: bool) -> None:
    partial = headers(b"{}")
    if empty:
        partial[missing] = ""
    else:
        del partial[missing]
    with pytest.raises(MissingSignature, match=missing) as refused:
        verify(b"{}", partial, secrets=[SECRET], now=NOW)
    assert refused.value.code == "missing_signature"
    assert refused.value.status == 401


def test_header_names_may_be_in_any_case() -> None:
    for change in (str.lower, str.upper, str.title):
        spelled = {change(name): value for name, value in headers(b"{}").items()}
        assert verify(b"{}", spelled, secrets=[SECRET], now=NOW)


@pytest.mark.parametrize("none", [[], [""], ["", "  "]])
def test_an_empty_secret_is_none(none: list[str]) -> None:
    signed_with_nothing = headers(b"{}", secret=none[0] if none else "")
    with pytest.raises(WebhookSecretRequired, match="OPSCORE_WEBHOOK_SECRET") as refused:
        verify(b"{}", signed_with_nothing, secrets=none, now=NOW)
    assert refused.value.code == "webhook_secret_required"
    assert refused.value.status == 401


def test_a_refusal_tells_neither_secret_nor_signature() -> None:
    good = headers(b"{}")
    with pytest.raises(InvalidSignature) as refused:
        verify(b"{}", good, secrets=["another-secret"], now=NOW)
    told = f"{refused.value!r} {refused.value.context!r}"
    assert "another-secret" not in told
    assert sign(b"{}", SIGNED_AT, "another-secret") not in told


def test_every_secret_is_tried_even_after_one_has_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []
    real = hmac.compare_digest

    def watched(ours: bytes, theirs: bytes) -> bool:
        compared.append(ours)
        return real(ours, theirs)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    verify(b"{}", headers(b"{}"), secrets=[SECRET, "second", "third"], now=NOW)
    assert len(compared) == 3
