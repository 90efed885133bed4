"""What is typed, held against the models before it is sent."""

from __future__ import annotations

from typing import Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError

__all__ = ["checked"]

M = TypeVar("M", bound=BaseModel)


def checked(model: type[M], **values: Any) -> M:
    """Return the model; what is not given (None) keeps its default.

    Raises `typer.BadParameter`, which names the value and the rule, for the first that cannot be.
    """
    given = {name: value for name, value in values.items() if value is not None}
    try:
        return model(**given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise typer.BadParameter(f"{where} {first['input']!r}: {first['msg']}") from None
