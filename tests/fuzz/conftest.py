"""The Ops-Core that is asked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from tests.fuzz.support import PEER, RIGHT, app, begin, register


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    """Return a client of an Ops-Core that knows agent `a`, its session `s` and workflow `w`."""
    with TestClient(app(), raise_server_exceptions=False, client=PEER) as client:
        register(client)
        session = {"agentId": "a", "sessionId": "s"}
        assert client.post("/v1/opscore/sessions", json=session, headers=RIGHT).status_code == 201
        begin(client)
        yield client
