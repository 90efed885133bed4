"""Names that nobody here knows, and those that were likely meant."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic_core import from_json

from opscore_middleware.errors import ValidationFailed

__all__ = ["advice", "meant", "refuse_misspelled"]

_NEAR: Final = 0.75
_SHORTEST: Final = 4
"""What is shorter is a part of many names."""
_LONGEST: Final = 80
"""What is longer is nobody's slip, and dear to compare."""


def meant(name: str, known: Collection[str]) -> str | None:
    """Return the known name that is spelled most like another; None where none is near."""
    if len(name) > _LONGEST:
        return None
    folded = {_folded(one): one for one in known}
    wanted = _folded(name)
    near = difflib.get_close_matches(wanted, list(folded), n=1, cutoff=_NEAR)
    if near:
        return folded[near[0]]
    if len(wanted) >= _SHORTEST:
        return next((one for text, one in folded.items() if wanted in text), None)
    return None


def advice(name: str, known: Collection[str]) -> str:
    """Say what could be written instead of a name that is unknown."""
    near = meant(name, known)
    if near is not None:
        return f"there is no such name here; did you mean {near}?"
    return f"there is no such name here, only {', '.join(sorted(known)) or 'none at all'}"


def refuse_misspelled(model: type[BaseModel], body: bytes) -> None:
    """Raise `ValidationFailed` for a body with a name that is likely a misspelled one of the model.

    Other unknown names are let through: clients of AgentKit's, and newer ones, may say more.
    """
    try:
        document = from_json(body)
    except ValueError:
        return  # whoever reads the body says what is wrong with it
    if not isinstance(document, Mapping):
        return
    aliases = {field.alias or name: name for name, field in model.model_fields.items()}
    known = {*aliases, *aliases.values()}
    left_out = [alias for alias, name in aliases.items() if not {alias, name} & document.keys()]
    faults: list[dict[str, Any]] = [
        {
            "type": "unknown_name",
            "loc": ("body", name),
            "msg": f"there is no such name here; did you mean {near}?",
            "input": document[name],
        }
        for name in document
        if name not in known and (near := meant(name, left_out)) is not None
    ]
    if faults:
        raise ValidationFailed(faults)


def _folded(name: str) -> str:
    return name.replace("_", "").replace("-", "").casefold()
