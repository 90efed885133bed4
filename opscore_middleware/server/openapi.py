"""The OpenAPI document: FastAPI's own, and what it cannot see of routes that read raw bodies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from opscore_middleware.core.models import (
    Batch,
    BatchAccepted,
    Heartbeat,
    HeartbeatAnswer,
    Registration,
    StateAccepted,
    StateReport,
)
from opscore_middleware.core.runs.views import TaskProgress, TaskResult, WorkflowStart
from opscore_middleware.core.sessions import SessionChange, SessionStart
from opscore_middleware.core.watch import AgentEvent
from opscore_middleware.core.workflows.definition import WorkflowDefinition
from opscore_middleware.core.workflows.schema import AsWritten
from opscore_middleware.server.errors import Problem, ValidationProblem, responses

__all__ = ["complete", "is_complete", "methods_of", "request_body"]

_SINGLE: Final = "/v1/opscore/agent/{agentId}/state"
_BATCH: Final = "/v1/opscore/agent/{agentId}/states"
_HEARTBEAT: Final = "/v1/opscore/agent/{agentId}/heartbeat"
_REF: Final = "#/components/schemas/{model}"
_MODELS: Final[tuple[type[BaseModel], ...]] = (
    AgentEvent,
    Batch,
    BatchAccepted,
    Heartbeat,
    HeartbeatAnswer,
    Problem,
    Registration,
    SessionChange,
    SessionStart,
    StateAccepted,
    StateReport,
    TaskProgress,
    TaskResult,
    ValidationProblem,
    WorkflowDefinition,
    WorkflowStart,
)


def request_body(model: type[BaseModel]) -> dict[str, Any]:
    """Document the JSON body of a route that parses it itself."""
    return {"required": True, "content": _json(model)}


def is_complete(schema: Mapping[str, Any]) -> bool:
    """Tell whether `complete` has seen this document."""
    return _BATCH in schema["paths"]


def complete(schema: dict[str, Any]) -> dict[str, Any]:
    """Add the report routes, the models of every raw body, and the key to FastAPI's document."""
    _, definitions = models_json_schema(
        [(model, "validation") for model in _MODELS],
        ref_template=_REF,
        schema_generator=AsWritten,
    )
    components = schema.setdefault("components", {})
    components.setdefault("schemas", {}).update(definitions["$defs"])
    components["securitySchemes"] = {"OPSCORE_API_KEY": {"type": "http", "scheme": "bearer"}}
    schema["security"] = [{"OPSCORE_API_KEY": []}]
    paths = schema["paths"]
    _refuse_in_json(paths)
    _summarise(paths)
    paths["/health"]["get"]["security"] = []
    single = paths.setdefault(_SINGLE, {})
    single["post"] = _operation(
        "report_state",
        "Report an agent's state",
        "Answers once the report is on disk. A repeat, by instance and sequence, changes nothing.",
        StateReport,
        (202, StateAccepted),
        responses(400, 404, 410, 413, 422, 429),
    )
    batch = paths.setdefault(_BATCH, {})
    batch["post"] = _operation(
        "report_states",
        "Report several states of one agent",
        "All are taken or none.",
        Batch,
        (202, BatchAccepted),
        responses(400, 404, 410, 413, 422, 429),
    )
    beat = paths.setdefault(_HEARTBEAT, {})
    beat["post"] = _operation(
        "heartbeat",
        "Say that an instance lives",
        "Never changes a state. The answer is what Ops-Core knows of the instance.",
        Heartbeat,
        (200, HeartbeatAnswer),
        responses(404, 410, 413, 422, 429),
    )
    return schema


def _refuse_in_json(paths: Mapping[str, Mapping[str, Any]]) -> None:
    """Say of every refusal that it is JSON: FastAPI takes it for what the route answers else."""
    for operations in paths.values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if status >= "400" and "content" in response:
                    (content,) = response["content"].values()
                    response["content"] = {"application/json": content}


def _summarise(paths: Mapping[str, Mapping[str, Any]]) -> None:
    """Have each operation say what it does: FastAPI takes its function's name for that."""
    for operations in paths.values():
        for operation in operations.values():
            first, *rest = re.split(r"\.(?:\s+|$)", operation["description"], maxsplit=1)
            operation["summary"] = " ".join(first.split())
            operation["description"] = "".join(rest)


def methods_of(schema: Mapping[str, Any], path: str) -> list[str]:
    """Return the methods that a path of the document answers to; empty for unknown paths."""
    for template, operations in schema["paths"].items():
        pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template))
        if re.fullmatch(pattern, path):
            return sorted(method.upper() for method in operations)
    return []


def _operation(
    name: str,
    summary: str,
    description: str,
    body: type[BaseModel],
    answer: tuple[int, type[BaseModel]],
    refusals: Mapping[int | str, Mapping[str, Any]],
) -> dict[str, Any]:
    status, model = answer
    return {
        "tags": ["reports"],
        "summary": summary,
        "description": description,
        "operationId": name,
        "parameters": [
            {"name": "agentId", "in": "path", "required": True, "schema": {"type": "string"}}
        ],
        "requestBody": request_body(body),
        "responses": {
            str(status): {"description": "Taken", "content": _json(model)},
            **{
                str(refused): {
                    "description": response["description"],
                    "content": _json(response["model"]),
                }
                for refused, response in refusals.items()
            },
        },
    }


def _json(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REF.format(model=model.__name__)}}}
