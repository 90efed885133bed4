"""`opscore` in this process: its commands start sooner than an interpreter does."""

from __future__ import annotations

import io
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple

import pytest

from opscore_middleware.cli import main
from tests.support.processes import clean_environment

__all__ = ["Done", "opscore"]


class Done(NamedTuple):
    """What a command left: its exit code and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def opscore(*arguments: str, **env: str) -> Done:
    """Run a command that ends by itself, as its script does, with `env` and nothing else set."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        for name in os.environ.keys() - clean_environment().keys():
            patch.delenv(name)
        for name, value in env.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["opscore", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    return Done(int(ended.value.code or 0), out.getvalue(), err.getvalue())
