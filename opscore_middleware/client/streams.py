"""Streams that are read in one thread and ended from another."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

__all__ = ["Streams"]


class Streams:
    """The answers that are being read, and whether that is to come to an end."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._open: set[socket.socket] = set()

    @property
    def are_ended(self) -> bool:
        """Whether nothing is to be read any more."""
        return self._ended.is_set()

    def wait(self, seconds: float) -> None:
        """Wait for so long, or until the end."""
        self._ended.wait(seconds)

    def end(self) -> None:
        """Wake whoever reads or waits. Idempotent."""
        self._ended.set()
        for connection in list(self._open):
            try:
                # To close a socket wakes nobody who reads from it; this does.
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # it is gone already
                pass

    @contextmanager
    def reading(self, answer: httpx.Response) -> Iterator[None]:
        """Let `end` break off an answer while it is read."""
        network = answer.extensions.get("network_stream")
        connection = None if network is None else network.get_extra_info("socket")
        if connection is None:  # a transport of the caller's own
            yield
            return
        self._open.add(connection)
        if self.are_ended:  # between the connection and here
            self.end()
        try:
            yield
        finally:
            self._open.discard(connection)
