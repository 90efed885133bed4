"""What is typed, held against the rules before it is sent."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from opscore_middleware.errors import ConfigurationError

__all__ = ["checked", "json_object"]

M = TypeVar("M", bound=BaseModel)


_OPTIONS: Final = {
    "agent_id": "--agent",
    "capabilities": "--capability",
    "contact_endpoint": "--endpoint",
    "session_id": "--session",
}
"""The options that are called otherwise than the fields that they are for."""


def checked(model: type[M], *, arguments: Collection[str] = (), **values: Any) -> M:
    """Return the model; what is not given (None) keeps its default.

    Fields are typed as options, but for those that are `arguments`. Raises `ConfigurationError`,
    which names the option, its value and the rule, for the first that cannot be.
    """
    given = {name: value for name, value in values.items() if value is not None}
    try:
        return model(**given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = str(first["loc"][0])
        option = _OPTIONS.get(field, f"--{field.replace('_', '-')}")
        where = field if field in arguments else option
        raise ConfigurationError(f"{where} {first['input']!r}: {first['msg']}.") from None


def json_object(text: str | None, *, option: str) -> dict[str, Any] | None:
    """Return the JSON object that `text` spells. Raises `ConfigurationError` naming `option`."""
    if text is None:
        return None
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False).encode()  # half a pair of surrogates cannot travel
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{option} {text!r} is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise ConfigurationError(
            f"{option} {text!r} is not a JSON object; write for example '{{\"n\": 1}}'."
        )
    return value
