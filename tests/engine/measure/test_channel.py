"""Framed JSON: big messages both ways at once, and what comes in that is no frame."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from aieng_bench.measure.channel import LARGEST, Channel, Closed, Late


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


def test_ten_megabytes_both_ways_at_once(ends: tuple[socket.socket, socket.socket]) -> None:
    left, right = Channel(ends[0]), Channel(ends[1])
    big = {"text": "é" * 5_000_000}
    deadline = time.monotonic() + 60

    def other() -> None:
        right.send(big, deadline)
        right.send(right.receive(deadline), deadline)

    thread = threading.Thread(target=other)
    thread.start()
    left.send(big, deadline)
    assert left.receive(deadline) == big
    assert left.receive(deadline) == big
    thread.join()


def test_messages_keep_their_order_and_borders(ends: tuple[socket.socket, socket.socket]) -> None:
    left, right = Channel(ends[0]), Channel(ends[1])
    for i in range(50):
        left.send({"i": i, "pad": "x" * i})
    assert [right.receive()["i"] for _ in range(50)] == list(range(50))


def test_nothing_within_the_deadline_is_late(ends: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(Late):
        Channel(ends[0]).receive(time.monotonic() + 0.05)


def test_a_reader_that_never_reads_makes_the_sender_late(ends: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(Late):
        Channel(ends[0]).send("x" * 10_000_000, time.monotonic() + 0.1)


def test_the_other_end_gone_is_closed(ends: tuple[socket.socket, socket.socket]) -> None:
    channel = Channel(ends[0])
    ends[1].close()
    with pytest.raises(Closed):
        channel.receive()
    with pytest.raises(Closed):
        channel.send("x")


def test_an_end_held_open_by_somebody_else_is_closed_once_its_owner_is_dead(ends: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(Closed):
        Channel(ends[0], alive=lambda: False).receive()


def test_the_last_words_of_the_dead_are_heard(ends: tuple[socket.socket, socket.socket]) -> None:
    Channel(ends[1]).send({"last": "words"})
    ends[1].close()
    channel = Channel(ends[0], alive=lambda: False)
    assert channel.receive() == {"last": "words"}
    with pytest.raises(Closed):
        channel.receive()


@pytest.mark.parametrize(
    "garbage", [struct.pack(">I", LARGEST + 1), struct.pack(">I", 3) + b"{a}", struct.pack(">I", 2) + b"\xff\xfe"]
)
def test_what_is_no_frame_is_refused(ends: tuple[socket.socket, socket.socket], garbage: bytes) -> None:
    ends[1].sendall(garbage)
    with pytest.raises(Closed):
        Channel(ends[0]).receive()


def test_half_a_frame_then_the_end(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[1].sendall(struct.pack(">I", 100) + b"{")
    ends[1].close()
    with pytest.raises(Closed):
        Channel(ends[0]).receive()
