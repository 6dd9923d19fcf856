"""Framed JSON over a socket pair: the only way a worker and its parent talk. Never pickle: a worker runs code we do not trust.

A frame is a 4-byte big-endian length and that many bytes of UTF-8 JSON. Whoever sends also drains what comes in meanwhile, so two
ends that both send 10 MB at once do not wait for each other for ever.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

LARGEST = 256 * 2**20
"""A longer frame is taken for garbage that somebody else wrote into the socket."""
_CHUNK = 1 << 20
_TICK_S = 0.25
_HEADER = struct.Struct(">I")


class Closed(Exception):
    """The other end is gone, or sent something that is no frame."""


class Late(Exception):
    """The deadline passed before the message was through."""


class Channel:
    """One end. ``alive`` is asked while nothing arrives: a grandchild may hold the other end open after its owner died."""

    def __init__(self, end: socket.socket, alive: Callable[[], bool] = lambda: True) -> None:
        end.setblocking(False)
        self._end, self._alive = end, alive
        self._incoming = bytearray()
        self._ended = False

    def send(self, message: Any, deadline: float | None = None) -> None:
        """Send a message before ``deadline`` (``time.monotonic``). Raises Closed, or Late."""
        body = json.dumps(message).encode()
        if len(body) > LARGEST:
            raise ValueError(f"message of {len(body)} bytes; the most a frame takes is {LARGEST}")
        rest = memoryview(_HEADER.pack(len(body)) + body)
        while rest:
            if self._ended:
                raise Closed("the other end is gone")
            if self._wait(select.POLLIN | select.POLLOUT, deadline) & select.POLLOUT:
                try:
                    rest = rest[self._end.send(rest[:_CHUNK]) :]
                except BlockingIOError:
                    pass
                except OSError as error:
                    raise Closed(str(error)) from None

    def receive(self, deadline: float | None = None) -> Any:
        """The next message, waited for until ``deadline`` (``time.monotonic``). Raises Closed, or Late."""
        while (message := self._next()) is None:
            if self._ended:
                raise Closed("the other end is gone")
            self._wait(select.POLLIN, deadline)
        return message[0]

    def close(self) -> None:
        self._end.close()

    def _wait(self, events: int, deadline: float | None) -> int:
        """Wait until one of ``events``, draining what comes in; returns those that happened, or 0 after a tick without any."""
        left = _TICK_S if deadline is None else min(_TICK_S, deadline - time.monotonic())
        if left <= 0:
            raise Late
        poll = select.poll()
        poll.register(self._end, events)
        happened = poll.poll(left * 1000)
        if not happened:
            self._ended = not self._alive() and not self._drain()
            return 0
        if happened[0][1] & (select.POLLIN | select.POLLHUP | select.POLLERR):
            self._drain()
        return happened[0][1]

    def _drain(self) -> bool:
        """Take in what is there; whether anything was."""
        try:
            chunk = self._end.recv(_CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            chunk = b""
        self._ended = not chunk
        self._incoming += chunk
        return bool(chunk)

    def _next(self) -> tuple[Any] | None:
        if len(self._incoming) < _HEADER.size:
            return None
        (length,) = _HEADER.unpack_from(self._incoming)
        if length > LARGEST:
            raise Closed(f"a frame that claims {length} bytes is none of ours")
        end = _HEADER.size + length
        if len(self._incoming) < end:
            return None
        body = bytes(self._incoming[_HEADER.size : end])
        del self._incoming[:end]
        try:
            return (json.loads(body),)
        except (ValueError, RecursionError) as error:
            raise Closed(f"a frame that is not JSON: {error}") from None
