"""Large attachments between processes of one machine: by memory that both map, and by frames where that fails."""

import fcntl
import os
import signal
import socket

import pytest
from conftest import PATIENCE, Cluster, kill, wait_for

import muster
from muster import shelf
from muster.shelf import NotThere, Shelf

numpy = pytest.importorskip("numpy")
LARGE = 4 << 20


@pytest.fixture
def counted(monkeypatch):
    """How often this process put something on a shelf and took something off it."""
    counts = {"put": 0, "take": 0}

    def count(name):
        plain = getattr(Shelf, name)

        def counting(self, *args, **kwargs):
            result = plain(self, *args, **kwargs)
            counts[name] += result is not None
            return result

        monkeypatch.setattr(Shelf, name, counting)

    count("put")
    count("take")
    return counts


def memories(broker) -> int:
    """What is on the shelf of this process."""
    folder = f"/proc/{broker.pid}/fd"
    links = []
    for fd in os.listdir(folder):
        try:
            links.append(os.readlink(f"{folder}/{fd}"))
        except FileNotFoundError:
            continue
    return sum("memfd:muster" in link for link in links)


@pytest.fixture
def array():
    return numpy.random.default_rng(1).random(LARGE // 8)


def test_arrays_go_and_come_by_the_shelf(pool, counted, array):
    back = pool.call("doubled", array)
    assert numpy.array_equal(back, array * 2)
    assert counted == {"put": 1, "take": 1}
    # What came is the caller's own, to be written to as well.
    back += 1
    assert numpy.array_equal(pool.call("echo", back), array * 2 + 1)


def test_bytes_too_and_only_large_ones(pool, counted):
    content = os.urandom(LARGE)
    assert pool.call("echo", content) == content
    assert pool.call("echo", {"a": [content, b"small"], "b": content[::-1]}) == {
        "a": [content, b"small"],
        "b": content[::-1],
    }
    assert counted == {"put": 3, "take": 3}
    assert pool.call("echo", b"x" * 1000) == b"x" * 1000
    assert counted == {"put": 3, "take": 3}


def test_views_with_gaps_are_closed_up(pool, counted):
    content = os.urandom(2 * LARGE)
    assert pool.call("echo", memoryview(content)[::2]) == content[::2]
    assert pool.call("every_second", content) == content[::2]
    assert counted == {"put": 2, "take": 2}


def test_a_result_may_be_large_when_the_call_is_not(pool, counted):
    assert pool.call("large", LARGE) == bytes(LARGE)
    assert counted == {"put": 0, "take": 1}
    assert [len(blob) for blob in pool.stream("large_ones", 3, LARGE)] == [LARGE] * 3
    assert counted == {"put": 0, "take": 4}


def test_objects_that_look_so_stay_what_they_are(pool):
    alike = {"$shared": "0" * 32}
    assert pool.call("echo", alike) == alike
    assert pool.call("echo", [alike, {"x": alike}]) == [alike, {"x": alike}]


def test_shipped_functions_use_it(private, counted, array):
    assert numpy.array_equal(private.submit(lambda a, b: a + b, array, b=array).result(PATIENCE), 2 * array)
    # Pickle keeps one buffer for the same array.
    assert counted == {"put": 1, "take": 1}
    small, large = private.submit(lambda a: (a[:2000], a), array).result(PATIENCE)
    assert numpy.array_equal(large, array) and numpy.array_equal(small, array[:2000])


def test_items_of_a_map_go_by_the_shelf(pool, counted, array):
    arrays = [array + n for n in range(5)]
    for back, sent in zip(pool.map("doubled", arrays), arrays, strict=True):
        assert numpy.array_equal(back, sent * 2)
    assert counted == {"put": 5, "take": 5}
    # One call an item: so do lists of arguments.
    (back,) = pool.starmap("doubled", [(array,)])
    assert numpy.array_equal(back, array * 2)
    assert counted == {"put": 6, "take": 6}


def test_items_of_a_shipped_map_go_by_the_shelf(private, counted, array):
    arrays = [array + n for n in range(5)]
    for back, sent in zip(private.map(lambda a: a + 1, arrays), arrays, strict=True):
        assert numpy.array_equal(back, sent + 1)
    assert counted["put"] >= 5 and counted["take"] == 5
    (back,) = private.starmap(lambda a, b: a + b, [(array, array)])
    assert numpy.array_equal(back, array * 2)


@pytest.fixture
def forgetful_shelf(monkeypatch):
    """Whatever is put on the shelf is gone before anybody takes it."""
    put = Shelf.put

    def lose(self, content, is_left=False):
        name = put(self, content, is_left)
        if name is not None:
            self.drop([name])
        return name

    monkeypatch.setattr(Shelf, "put", lose)


@pytest.mark.parametrize("kind", ["serve", "host"])
def test_items_that_are_not_there_any_more_are_sent_as_frames(cluster: Cluster, kind: str, array, forgetful_shelf):
    getattr(cluster, kind)("--allow-apply")
    pool = cluster.connect(slots=2)
    arrays = [array + n for n in range(3)]
    for backs in (pool.map("doubled", arrays), pool.map(lambda a: a * 2, arrays)):
        assert all(numpy.array_equal(back, sent * 2) for back, sent in zip(backs, arrays, strict=True))
    (back,) = pool.starmap("doubled", [(array,)])
    assert numpy.array_equal(back, array * 2)
    # In one chunk there are more than a message has frames for: it is cut.
    many = [bytes(shelf.BYTES_MIN)] * 61
    assert pool.map("every_second", many, chunksize=61) == [bytes(shelf.BYTES_MIN // 2)] * 61


def test_an_item_whose_worker_dies_is_found_again(cluster: Cluster, array, tmp_path):
    cluster.host()
    pool = cluster.connect(slots=2)
    (back,) = pool.starmap("die_once_and_echo", [(str(tmp_path / "died"), array)])
    assert numpy.array_equal(back, array) and (tmp_path / "died").exists()


@pytest.mark.parametrize("kind", ["serve", "host"])
def test_a_map_leaves_nothing_there_whatever_becomes_of_it(cluster: Cluster, kind: str, array):
    getattr(cluster, kind)("--allow-apply")
    pool = cluster.connect(slots=2)
    # Results are small: a large one that nobody takes any more stays for a minute.
    for function in ("length", lambda a: len(a)):
        assert pool.map(function, [array] * 6) == [len(array)] * 6
        wait_for(lambda: memories(cluster.broker) == 0, "an empty shelf")
        results = pool.imap(function, [array] * 50)
        next(results)
        results.close()
        wait_for(lambda: memories(cluster.broker) == 0, "an empty shelf")
        # The first is on the shelf already when the second turns out to be no value.
        with pytest.raises(TypeError):
            pool.map(function, [array, {"a": (n for n in ())}], chunksize=2)
        wait_for(lambda: memories(cluster.broker) == 0, "an empty shelf")


@pytest.mark.parametrize("kind", ["serve", "host"])
def test_nothing_stays_there(cluster: Cluster, kind: str, array):
    getattr(cluster, kind)()
    pool = cluster.connect(slots=2)
    futures = [pool.submit("echo", array) for _ in range(8)]
    assert all(numpy.array_equal(future.result(PATIENCE), array) for future in futures)
    assert pool.submit("nap", 300).cancel()
    wait_for(lambda: memories(cluster.broker) == 0, "an empty shelf")


@pytest.mark.parametrize("kind", ["serve", "host"])
def test_what_is_not_there_any_more_is_sent_as_frames(cluster: Cluster, kind: str, array, forgetful_shelf):
    getattr(cluster, kind)("--allow-apply")
    pool = cluster.connect(slots=2)
    assert numpy.array_equal(pool.call("doubled", array), array * 2)
    assert numpy.array_equal(pool.submit(lambda a: a + 1, array).result(PATIENCE), array + 1)
    with pytest.raises(TypeError):
        pool.call("invert", array.tobytes())
    # More than a message has frames for.
    with pytest.raises(TypeError, match="at most 60"):
        pool.call("echo", [bytes(shelf.BYTES_MIN)] * 61)


def test_no_room_means_frames(pool, counted, array, monkeypatch):
    plain = Shelf._ask

    def is_full(self, request, memory):
        return (b"f", None) if memory is not None else plain(self, request, memory)

    monkeypatch.setattr(Shelf, "_ask", is_full)
    assert numpy.array_equal(pool.call("doubled", array), array * 2)
    assert counted == {"put": 0, "take": 1}


def test_a_call_whose_worker_dies_finds_its_array_again(cluster: Cluster, array, tmp_path):
    cluster.host()
    pool = cluster.connect(slots=2)
    assert numpy.array_equal(pool.call("die_once_and_echo", str(tmp_path / "died"), array), array)
    assert (tmp_path / "died").exists()


@pytest.mark.parametrize("kind", ["serve", "host"])
def test_a_restarted_broker_has_an_empty_shelf(cluster: Cluster, kind: str, array, tmp_path):
    getattr(cluster, kind)(slots=1)
    pool = cluster.connect(slots=1)
    gate = tmp_path / "gate"
    blocking = pool.submit("wait_for_file", str(gate))
    waiting = pool.submit("doubled", array)
    wait_for(lambda: memories(cluster.broker), "the array on the shelf")
    kill(cluster.broker.pid)
    cluster.broker.wait()
    cluster.start_broker()
    gate.touch()
    blocking.result(PATIENCE)
    assert numpy.array_equal(waiting.result(PATIENCE), array * 2)


def test_a_program_that_is_killed_leaves_nothing_there(cluster: Cluster):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        own = Shelf(str(cluster.folder / "t/shelf"))
        os.write(write, own.put(bytes(LARGE)).encode())
        signal.pause()
    name = os.read(read, 32).decode()
    here = Shelf(str(cluster.folder / "t/shelf"))
    assert here.take(name) == bytes(LARGE)
    kill(child)
    os.waitpid(child, 0)
    wait_for(lambda: memories(cluster.broker) == 0, "an empty shelf")
    with pytest.raises(NotThere):
        here.take(name)


def test_what_is_left_outlives_its_sender(cluster: Cluster):
    path = str(cluster.folder / "t/shelf")
    sender, reader = Shelf(path), Shelf(path)
    name = sender.put(bytes(LARGE), is_left=True)
    sender._close()
    assert reader.take(name) == bytes(LARGE)
    reader.drop([name])
    wait_for(lambda: memories(cluster.broker) == 0, "an empty shelf")


def test_the_shelf_goes_with_its_broker(cluster: Cluster):
    path = cluster.folder / "t/shelf"
    assert path.exists()
    cluster.broker.terminate()
    cluster.broker.wait(30)
    assert not path.exists()
    assert shelf.beside(f"ipc://{cluster.folder}/t/frontend") is None
    assert shelf.beside("tcp://127.0.0.1:5559") is None


def ask(path, request: bytes, *memories: int) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        connection.sendmsg([request], [shelf._rights(memory) for memory in memories])
        return connection.recv(64)


def test_only_sealed_memory_is_kept(cluster: Cluster, tmp_path):
    path = cluster.folder / "t/shelf"
    name = bytes(16)
    memory = os.memfd_create("muster", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(memory, b"x" * 5000)
    assert ask(path, b"P" + name, memory) == b"b"
    for seals in (0x2, 0x4, 0x8):
        fcntl.fcntl(memory, 1033, seals)
        assert ask(path, b"P" + name, memory) == b"b"
    fcntl.fcntl(memory, 1033, 0x1)
    assert ask(path, b"L" + name, memory) == b"k"
    # The name is taken, and nothing else is a memory.
    assert ask(path, b"L" + name, memory) == b"f"
    os.close(memory)
    with open(tmp_path / "file", "wb+") as file:
        file.write(b"x" * 5000)
        file.flush()
        assert ask(path, b"P" + b"1" * 16, file.fileno()) == b"b"
    empty = shelf._seal(memoryview(b""))
    assert ask(path, b"P" + b"2" * 16, empty) == b"b"
    os.close(empty)


@pytest.mark.parametrize(
    ("request_", "answer"),
    [(b"?", b"b"), (b"P", b"b"), (b"T123", b"b"), (b"T" + bytes(32), b"b"), (b"T" + b"7" * 16, b"n")],
)
def test_what_makes_no_sense_is_refused(cluster: Cluster, request_, answer):
    assert ask(cluster.folder / "t/shelf", request_) == answer
    # It goes on.
    assert ask(cluster.folder / "t/shelf", b"T" + bytes(16)) == b"n"


def test_names_are_found_where_attachments_stand():
    class Given(Shelf):
        def take(self, name):
            return memoryview(name.encode())

        def drop(self, names):
            self.dropped = names

    given = Given("")
    name = "0123456789abcdef" * 2
    text = f'[{{"$frame":0}},{{"$shared":"{name}"}},{{"$literal":{{"$shared":"{name}"}}}},{{"$shared":"x"}}]'
    changed, frames = shelf.receive(given, text, [b"first"], is_last=True)
    assert changed == text.replace(f'{{"$shared":"{name}"}}', '{"$frame":1}', 1)
    assert [bytes(frame) for frame in frames] == [b"first", name.encode()]
    assert given.dropped == [name]
    with pytest.raises(NotThere):
        shelf.receive(None, text, [])


def test_a_forked_child_has_a_connection_of_its_own(cluster: Cluster):
    own = Shelf(str(cluster.folder / "t/shelf"))
    name = own.put(bytes(LARGE))
    child = os.fork()
    if child == 0:
        fits = own.take(name) == bytes(LARGE) and own.put(bytes(LARGE)) is not None
        os._exit(0 if fits else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert own.take(name) == bytes(LARGE)
    assert memories(cluster.broker) == 1


def test_without_a_common_machine_arrays_are_frames(cluster: Cluster, counted, array):
    cluster.broker.terminate()
    cluster.broker.wait(30)
    cluster.start_broker("--listen", "tcp://127.0.0.1:0")
    cluster.host()
    here = cluster.connect(slots=2)
    endpoint = here.status()["tcp_endpoints"]["frontend"]
    assert counted == {"put": 0, "take": 0}
    far = muster.connect(endpoint=endpoint, timeout=20)
    assert numpy.array_equal(far.call("doubled", array), array * 2)
    assert counted == {"put": 0, "take": 0}
    far.terminate()
