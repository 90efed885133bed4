"""What is printed, whoever said it."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["visible"]

_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def visible(text: str) -> str:
    """Return what somebody wrote, with all that would steer a terminal spelled out."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)
