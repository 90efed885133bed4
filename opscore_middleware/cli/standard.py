"""Standard output and standard error, wherever they go."""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import json
import os
import sys
from typing import Final

__all__ = ["UNWRITABLE", "escape_the_rest", "leave_the_rest", "open_what_is_closed", "say"]

UNWRITABLE: Final = frozenset({errno.EBADF, errno.EFBIG, errno.EIO, errno.ENOSPC, errno.EPIPE})
"""The errors of an output that cannot be written to."""

_ESCAPED: Final = "opscore-escaped"


def open_what_is_closed() -> None:
    """Put something in the place of a standard output or error that was closed at the start.

    Else the next file or socket would take its number. What is printed fails, as that of other
    commands does, and what is said besides goes nowhere.
    """
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w")
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")


def say(text: str) -> None:
    """Say something on standard error, where that can be written to."""
    with contextlib.suppress(OSError):
        print(f"opscore: {text}", file=sys.stderr, flush=True)  # noqa: T201 - this is the output


def leave_the_rest() -> None:
    """Let go of what could not be written, so that the interpreter does not try again."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


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
