"""Whatever is sent to any route: never a 500, never an undocumented status, JSON always."""

from __future__ import annotations

import itertools
import uuid
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.stateful import run_state_machine_as_test
from pydantic import ValidationError
from schemathesis.checks import not_a_server_error
from schemathesis.core.transport import Response
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from opscore_middleware.core.watch import StateQuery
from tests.fuzz.support import MEMORY, PEER, RIGHT, app, register, there
from tests.support.postgres import empty

CHECKS: Final[list[Any]] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
QUIETLY: Final = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]

# A stream of events has no end; it has tests of its own.
SCHEMA: Final = schemathesis.openapi.from_dict(app().openapi()).exclude(path="/v1/opscore/events")
OPERATIONS: Final = {found.ok().label: found.ok() for found in SCHEMA.get_all_operations()}


def send(client: TestClient, case: schemathesis.Case) -> Response:
    """Send exactly the bytes that the case describes."""
    if isinstance(case.query, dict) and _is_wait(case.query.get("wait")):
        case.query["wait"] = "0s"  # nothing happens meanwhile
    wanted = case.as_transport_kwargs(base_url="http://testserver", headers=RIGHT)
    request = requests.Request(**wanted).prepare()
    answer = client.request(
        request.method or "GET",
        request.url or "",
        content=request.body,
        headers=dict(request.headers),
    )
    return Response.from_any(answer)


def _is_wait(value: Any) -> bool:
    try:
        return StateQuery.model_validate({"wait": value}).wait is not None
    except ValidationError:
        return False


def fitted(case: schemathesis.Case, known: dict[str, str]) -> schemathesis.Case:
    """Let path and body agree on somebody who is there, so that more than a refusal is seen."""
    case.path_parameters = {n: known.get(n, v) for n, v in case.path_parameters.items()}
    case.body = _agreeing(case.body)
    return case


def _agreeing(body: Any) -> Any:
    match body:
        case {"timestamp": _, "state": _}:
            return {**body, "agentId": "a", "state": "idle"}
        case {"reports": [*reports]}:
            return {**body, "reports": [_agreeing(report) for report in reports]}
        case {"event_type": _, "agent_details": _}:
            return {**body, "event_type": "REGISTER"}
        case {"workflowDefinitionId": _}:
            rest = {name: v for name, v in body.items() if name != "workflowDefinition"}
            return {**rest, "workflowDefinitionId": "w"}
        case {"agentId": _} if "agentName" not in body:
            return {**body, "agentId": "a"}
    return body


def asked(client: TestClient, label: str, examples: int) -> None:
    operation = OPERATIONS[label]
    right = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    known = there(client)
    cases = right | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)

    @settings(max_examples=examples, derandomize=True, deadline=None, suppress_health_check=QUIETLY)
    @given(case=cases | cases.map(partial(fitted, known=known)))
    def conforms(case: schemathesis.Case) -> None:
        register(client)
        case.validate_response(send(client, case), checks=CHECKS)

    conforms()


@pytest.mark.parametrize("label", OPERATIONS)
def test_any_request_is_answered_as_documented(client: TestClient, label: str) -> None:
    asked(client, label, 8)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("label", OPERATIONS)
def test_very_many_requests_are_answered_as_documented(client: TestClient, label: str) -> None:
    asked(client, label, 2_000)


# --- one request after another -------------------------------------------------------------------


class Life(SCHEMA.as_state_machine()):  # type: ignore[misc] # a base that is made at run time
    """Follows what answers name into further requests, on an empty Ops-Core."""

    address = MEMORY

    def setup(self) -> None:
        self._stack = ExitStack()
        if self.address != MEMORY:
            empty(self.address)
        # A story is told again when it is cut short, and has to go the same way.
        numbers = itertools.count()
        patch = self._stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=next(numbers)))
        self._client = self._stack.enter_context(
            TestClient(app(self.address), raise_server_exceptions=False, client=PEER)
        )

    def teardown(self) -> None:
        self._stack.close()

    def call(self, case: schemathesis.Case, **kwargs: Any) -> Response:
        return send(self._client, case)

    def validate_response(self, response: Response, case: schemathesis.Case, **kwargs: Any) -> None:
        case.validate_response(response, checks=CHECKS)


def test_any_story_is_answered_as_documented(address_of_stories: str) -> None:
    live(address_of_stories, 5)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_very_many_stories_are_answered_as_documented(address_of_stories: str) -> None:
    live(address_of_stories, 500)


def live(address: str, examples: int) -> None:
    run_state_machine_as_test(
        type("Life", (Life,), {"address": address}),
        settings=settings(
            max_examples=examples,
            stateful_step_count=10,
            derandomize=True,
            deadline=None,
            suppress_health_check=QUIETLY,
        ),
    )
