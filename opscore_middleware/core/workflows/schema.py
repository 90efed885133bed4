"""The JSON Schema of a definition, for editors.

`python -m opscore_middleware.core.workflows.schema` prints it.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from opscore_middleware.core.workflows.definition import WorkflowDefinition, spelled

__all__ = ["AsWritten", "json_schema"]

_TITLE: Final = "Ops-Core workflow"


class AsWritten(GenerateJsonSchema):
    """Shows defaults as people write them, and no titles made from names."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Return the schema of a field with a default."""
        made = super().default_schema(schema)
        if made.get("type") == "string" and isinstance(made.get("default"), int):
            made["default"] = spelled(made["default"])
        return made

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Tell that a field's name is title enough."""
        return False


def json_schema() -> dict[str, Any]:
    """Return the schema of a definition as it is written."""
    schema = WorkflowDefinition.model_json_schema(schema_generator=AsWritten)
    return {"$schema": AsWritten.schema_dialect, **schema, "title": _TITLE}


if __name__ == "__main__":
    json.dump(json_schema(), sys.stdout, indent=2)
    sys.stdout.write("\n")
