"""What ids, names and addresses may look like: the models' rules, and the same checked plainly.

An agent checks what it is configured with and loads no models for that.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = [
    "AGENT_ID",
    "ENDPOINT",
    "LONGEST_ENDPOINT",
    "LONGEST_NAME",
    "LONGEST_VERSION",
    "MOST_CAPABILITIES",
    "PLAIN",
    "STEPS",
    "VERSION",
    "are_capabilities",
    "is_agent_id",
    "is_endpoint",
    "is_name",
    "is_version",
]

# No control characters: ids and names travel in paths, logs and terminals, and PostgreSQL stores
# no NUL. Length bounds keep indexes small.
PLAIN: Final = r"^[^\x00-\x1f\x7f]+$"
AGENT_ID: Final = r"^[^\x00-\x1f\x7f/]+$"
"""An agent's id is one segment of a path."""
STEPS: Final = (".", "..")
"""No ids: they stand for another place in an address, and are taken out of it on the way."""
VERSION: Final = r"^[^\x00-\x1f\x7f]*$"
ENDPOINT: Final = r"^https?://[^\s\x00-\x1f\x7f]+$"

LONGEST_NAME: Final = 200
LONGEST_VERSION: Final = 100
LONGEST_ENDPOINT: Final = 2000
MOST_CAPABILITIES: Final = 200


def is_agent_id(value: object) -> bool:
    """Tell whether an agent can have this id."""
    return _is(AGENT_ID, value, LONGEST_NAME) and value not in STEPS


def is_name(value: object) -> bool:
    """Tell whether an agent or a capability can have this name."""
    return _is(PLAIN, value, LONGEST_NAME)


def is_version(value: object) -> bool:
    """Tell whether an agent can have this version."""
    return _is(VERSION, value, LONGEST_VERSION)


def is_endpoint(value: object) -> bool:
    """Tell whether an agent can take tasks at this address."""
    return _is(ENDPOINT, value, LONGEST_ENDPOINT)


def are_capabilities(values: object) -> bool:
    """Tell whether an agent can have these capabilities."""
    return (
        isinstance(values, list) and len(values) <= MOST_CAPABILITIES and all(map(is_name, values))
    )


def _is(pattern: str, value: object, longest: int) -> bool:
    if not isinstance(value, str) or len(value) > longest or not re.fullmatch(pattern, value):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False  # half a surrogate pair cannot travel
    return True
