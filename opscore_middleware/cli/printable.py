"""What is printed, whoever said it and wherever it goes."""

from __future__ import annotations

import codecs
import io
import json
import re
import sys
from typing import Final

__all__ = ["escape_the_rest", "visible"]

_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_ESCAPED: Final = "opscore-escaped"


def visible(text: str) -> str:
    """Return what somebody wrote, with all that would steer a terminal spelled out."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def escape_the_rest() -> None:
    """Let standard output spell out what its encoding has no letters for, instead of failing.

    A pipe on Windows, or a terminal that is set to Latin-1, takes few of the names there are.
    """
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper) and out.errors == "strict":
        codecs.register_error(_ESCAPED, _escaped)
        out.reconfigure(errors=_ESCAPED)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    # As JSON does it, so that what programs read stays JSON.
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end
