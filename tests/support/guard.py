"""Runs a program for as long as whoever started this one lives, and ends it then.

Started as `python guard.py USER PROGRAM ARGUMENT...` with a pipe as its standard input. However the
owner of the pipe's other end ends, it closes. An empty USER is the one that runs this.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading


def main(user: str, *command: str) -> int:
    """Run the program and return its exit code."""
    process = subprocess.Popen(command, user=user or None, stdin=subprocess.DEVNULL)

    def end_with_the_owner() -> None:
        sys.stdin.buffer.read()
        process.send_signal(signal.SIGINT)

    threading.Thread(target=end_with_the_owner, daemon=True).start()
    return process.wait()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
