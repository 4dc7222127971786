"""The local connection: its codec on bytes cut anywhere, and the whole of it against libzmq's ROUTER."""

import random
import socket
import time

import pytest
import zmq
from conftest import PATIENCE, wait_for

from muster.connection import Address, Curve
from muster.local_door import UNSENT_BYTES_MAX, LocalDoor, is_local
from muster.zmtp import LARGE_BYTES, OPENING, Broken, Decoder, Refused, pack

#: What a ROUTER says first.
ROUTER = OPENING.replace(b"DEALER", b"ROUTER")


def ready_decoder():
    decoder = Decoder()
    decoder.feed(ROUTER)
    assert decoder.is_ready
    return decoder


def all_messages(decoder):
    return [[bytes(frame) for frame in message] for message in iter(decoder.next, None)]


MESSAGES = [
    (b"", []),
    (b"short", []),
    (b"x" * 255, []),
    (b"x" * 256, [b"", b"1", b"y" * 300]),
    (b"body", [bytes(LARGE_BYTES - 1), bytes(range(256)) * (LARGE_BYTES // 256), b"end"]),
    (b"z" * (LARGE_BYTES + 1), []),
]


@pytest.mark.parametrize("seed", range(5))
def test_messages_are_whole_wherever_their_bytes_are_cut(seed):
    rng = random.Random(seed)
    whole = ROUTER + b"".join(b"".join(pack(*message)) for message in MESSAGES)
    decoder, at, found = Decoder(), 0, []
    while at < len(whole):
        size = rng.choice([1, 2, 3, 10, 64, 1000, 70_000])
        room = decoder.room()
        if room is not None:
            size = min(size, len(room), len(whole) - at)
            room[:size] = whole[at : at + size]
            decoder.filled(size)
        else:
            size = min(size, len(whole) - at)
            decoder.feed(whole[at : at + size])
        at += size
        found += all_messages(decoder)
    assert found == [[b"", body, *frames] for body, frames in MESSAGES]


@pytest.mark.parametrize(
    "opening",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\xff" + bytes(8) + b"\x7e",
        # ZMTP 2, and a peer that wants keys.
        ROUTER[:10] + b"\x02" + ROUTER[11:],
        ROUTER.replace(b"NULL\0", b"CURVE"),
        # A message before READY, flags that do not exist, a size that nobody sends.
        ROUTER[:64] + b"\x00\x01x",
        ROUTER + b"\x08\x00",
        ROUTER + b"\x02" + b"\xff" * 8,
    ],
)
def test_what_is_no_router_without_keys_is_told_from_one(opening):
    with pytest.raises(Broken):
        Decoder().feed(opening)


def test_a_ping_is_answered_with_what_it_brought():
    decoder = ready_decoder()
    decoder.feed(b"\x04\x0b\x04PING\x00\x10back")
    assert decoder.replies == [b"\x04\x09\x04PONGback"]


def test_an_error_says_that_the_connection_is_refused():
    with pytest.raises(Refused, match="no such key"):
        ready_decoder().feed(b"\x04\x12\x05ERROR\x0bno such key")


def test_only_a_keyless_socket_of_the_file_system_is_local():
    assert is_local(Address("ipc:///run/frontend"))
    assert not is_local(Address("ipc://@abstract"))
    assert not is_local(Address("tcp://127.0.0.1:5559"))
    assert not is_local(Address("ipc:///run/frontend", curve=Curve("a", "b", "c")))


@pytest.fixture
def router(tmp_path):
    socket = zmq.Context.instance().socket(zmq.ROUTER)
    socket.linger = 0
    # It takes all at once, and no test waits for ever.
    socket.rcvhwm = socket.sndhwm = 0
    socket.rcvtimeo = int(PATIENCE * 1000)
    socket.bind(f"ipc://{tmp_path}/r")
    yield socket
    socket.close()


@pytest.fixture
def bell():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours.fileno()


def open_door(tmp_path):
    door = LocalDoor(Address(f"ipc://{tmp_path}/r"))
    wait_for(lambda: "up" in list(door.events()), "the handshake")
    return door


def receive(door, bell):
    def one():
        door.flush()
        door.wait(bell, 0.01)
        return door.receive()

    return wait_for(one, "a message")


def test_libzmq_understands_it_and_is_understood(router, tmp_path, bell):
    door = open_door(tmp_path)
    sent = [(f"message {n}".encode(), []) for n in range(2000)]
    sent += [(b"x" * 100_000, [b"a", bytes(5_000_000)]), (b"last", [memoryview(b"abcdef")[::2]])]
    for body, frames in sent:
        while not door.send(body, frames):
            door.flush()
    for body, frames in sent:
        door.flush()
        peer, delimiter, *parts = router.recv_multipart()
        assert (delimiter, parts) == (b"", [body, *map(bytes, frames)])
        router.send_multipart([peer, b"", *parts])
    for body, frames in sent:
        back, parts = receive(door, bell)
        assert (back, [bytes(part) for part in parts]) == (body, [bytes(frame) for frame in frames])
    door.close()


def test_what_comes_in_between_is_an_event_all_the_same(tmp_path, bell):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/r")
        listener.listen()
        door = LocalDoor(Address(f"ipc://{tmp_path}/r"))
        peer, _ = listener.accept()
        peer.sendall(ROUTER[:64])
        assert list(door.events()) == []
        peer.sendall(ROUTER[64:])
        assert door.receive() is None
        # Nothing more comes, and it does not wait for it.
        door.wait(bell, PATIENCE)
        assert list(door.events()) == ["up"]
        peer.close()
        assert door.receive() is None
        door.wait(bell, PATIENCE)
        assert list(door.events()) == ["down"]
        door.close()


def test_there_is_no_room_while_the_other_side_does_not_read(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/r")
        listener.listen()
        door = LocalDoor(Address(f"ipc://{tmp_path}/r"))
        sent = 0
        while door.send(bytes(100_000), []):
            door.flush()
            sent += 1
            assert sent < 100
        assert sent * 100_000 > UNSENT_BYTES_MAX
        door.close()


def test_it_is_down_after_what_was_said_last(router, tmp_path, bell):
    door = open_door(tmp_path)
    door.send(b"hello", [])
    door.flush()
    peer, *_ = router.recv_multipart()
    router.send_multipart([peer, b"", b"good-bye"])
    router.close(linger=2000)
    assert receive(door, bell) == (b"good-bye", [])
    assert wait_for(lambda: door.receive() or list(door.events()), "the end") == ["down"]
    door.close()


def test_what_was_taken_before_it_closes_is_sent(router, tmp_path):
    door = open_door(tmp_path)
    door.send(b"x" * 900_000, [])
    started = time.monotonic()
    door.close(linger=5)
    assert time.monotonic() - started < 4
    assert router.recv_multipart()[2] == b"x" * 900_000
