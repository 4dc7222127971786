"""What needs no broker: connection files, values on the wire, records, errors."""

import fcntl
import json
import os
import re
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
from conftest import ROOT

import muster
from muster import connection, errors, mapping, records, shipped, wire
from muster.connection import Target

CONNECTION = {
    "version": 1, "name": "t", "host": "h", "pid": 1, "started": 1,
    "frontend": "ipc:///x/frontend", "backend": "ipc:///x/backend",
    "workers": "ipc:///x/workers", "events": "ipc:///x/events", "curve": None,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "t"
    folder.mkdir(mode=0o700)
    (folder / "cluster.json").write_text(json.dumps(CONNECTION))
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def resolve(folder):
    return Target.of("t", runtime_dir=folder.parent).resolve()


def test_a_living_broker_is_found(folder):
    assert resolve(folder).frontend == "ipc:///x/frontend"
    assert resolve(folder).workers == "ipc:///x/workers"


def test_a_file_whose_lock_is_free_is_stale(folder):
    (folder / "lock").unlink()
    with pytest.raises(muster.NoBroker, match="has ended"):
        resolve(folder)


def test_a_folder_that_lets_others_in_is_refused(folder):
    folder.chmod(0o755)
    with pytest.raises(muster.NoBroker, match="lets others in"):
        resolve(folder)


def test_a_link_instead_of_the_folder_is_refused(folder):
    folder.rename(folder.parent / "elsewhere")
    folder.symlink_to(folder.parent / "elsewhere")
    with pytest.raises(muster.NoBroker, match="symbolic link"):
        resolve(folder)


@pytest.mark.parametrize("change", [{"version": 2}, {"frontend": None, "version": "1"}])
def test_another_version_is_refused(folder, change):
    (folder / "cluster.json").write_text(json.dumps({**CONNECTION, **change}))
    with pytest.raises(muster.NoBroker, match="version"):
        resolve(folder)


def test_broken_and_huge_files_are_refused(folder):
    for text in ("{", "[]", "{}", " " * 100_000):
        (folder / "cluster.json").write_text(text)
        with pytest.raises(muster.NoBroker):
            resolve(folder)


def test_the_environment_counts_when_nothing_is_named(monkeypatch):
    monkeypatch.setenv("MUSTER_ENDPOINT", "host:5559")
    assert Target.of().resolve().frontend == "tcp://host:5559"
    assert Target.of("other").endpoint is None
    monkeypatch.setenv("MUSTER_CLUSTER", "c")
    monkeypatch.setenv("MUSTER_RUNTIME_DIR", "/d")
    assert Target.of().runtime_path().as_posix() == "/d/c"


@pytest.mark.parametrize(
    ("value", "is_used"), [("/run/user/7", True), ("run", False), ("", False)]
)
def test_a_relative_runtime_folder_counts_as_none(monkeypatch, value, is_used):
    monkeypatch.setenv("TMPDIR", "/somewhere")
    monkeypatch.setenv("XDG_RUNTIME_DIR", value)
    base = connection._base_default()
    expected = Path("/run/user/7/muster") if is_used else Path(f"/somewhere/muster-{os.geteuid()}")
    assert base == expected


def test_a_function_of_other_versions_is_refused_with_the_versions():
    pickled_by_others = b"ccloudpickle.cloudpickle\n_of_another_version\n."
    with pytest.raises(AttributeError, match=r"_of_another_version.* Python 3\..* cloudpickle \d"):
        shipped._define({"hash": pickled_by_others})


def test_a_secret_key_is_not_printed():
    assert "secret" not in repr(muster.connection.Curve("server", "public", "secret"))


def test_frames_are_not_copied():
    content = bytearray(b"abc")
    text, frames = wire.encode({"a": [content, memoryview(content)]})
    assert json.loads(text) == {"a": [{"$frame": 0}, {"$frame": 1}]}
    assert frames[0] is content and frames[1].obj is content


LOOK_ALIKES = [
    {"$frame": 1},
    {"$literal": 1},
    {"a": {"$base64": "eA=="}},
    {"$array": 1, "b": 2},
    [{"$literal": {"$frame": 0}}],
]


@pytest.mark.parametrize("value", LOOK_ALIKES)
def test_look_alikes_are_marked(value):
    text, frames = wire.encode(value)
    assert frames == [] and b"$literal" in text
    assert wire.restore(json.loads(text), []) == value


def test_more_frames_than_a_message_holds_are_refused():
    with pytest.raises(TypeError, match="at most 60"):
        wire.encode([b""] * 61)


def test_a_missing_attachment_is_named():
    with pytest.raises(muster.InvalidParams, match="attachment 1 is missing"):
        wire.restore([{"$frame": 1}], [b""])


@pytest.mark.parametrize(
    "body",
    [
        b'{"jsonrpc":"2.0","result":[{"result":1},{"result":"},{\\"result\\":"}],"id":1}',
        b'{"jsonrpc":"2.0","id":1,"result":[{"result":1},{"result":"},{\\"result\\":"}]}',
    ],
)
def test_text_that_looks_like_a_separator_is_text(body):
    assert wire.read_chunk(body, [], "m", 2) == ([1, '},{"result":'], {})


RESULTS = [
    [1, -2, 3.5, 2**70],
    [1],
    [[1, 2], [3, [4]], []],
    [None, True, False],
    [1e100, 1e-9],
    [1, "true", {"result": 1}],
    ["}{", 1, 2],
    [0] * 100 + ['},{"result":'],
]


@pytest.mark.parametrize("results", RESULTS)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_a_chunk_is_read_as_it_was_meant(results, separators):
    outcomes = json.dumps([{"result": result} for result in results], separators=separators)
    body = f'{{"jsonrpc":"2.0","result":{outcomes},"id":1}}'.encode()
    assert wire.read_chunk(body, [], "m", len(results)) == (results, {})


def test_a_failed_item_of_a_chunk_has_its_place():
    error = b'{"error":{"code":-32602,"message":"x"}}'
    body = b'{"jsonrpc":"2.0","result":[{"result":1},%b,{"result":3}],"id":1}' % error
    results, failures = wire.read_chunk(body, [], "m", 3)
    assert results == [1, None, 3]
    assert list(failures) == [1] and isinstance(failures[1], muster.InvalidParams)


def test_unreadable_answers_are_bad_replies():
    for body in (b"", b"[]", b"{}", b"\xff", b'{"error":1}'):
        with pytest.raises(muster.BadReply):
            wire.read_answer(body, [], "m")


def test_exceptions_that_end_programs_do_not():
    for name in (
        "SystemExit",
        "KeyboardInterrupt",
        "StopIteration",
        "GeneratorExit",
        "int",
        "Nope",
        "a.ValueError",
    ):
        error = errors.from_object({"code": -32000, "message": "", "data": {"type": name, "message": "x"}})
        assert type(error) is errors.RemoteError, name


@pytest.mark.parametrize(
    "name", ["UnicodeDecodeError", "KeyError", "OSError", "FileNotFoundError", "ExceptionGroup"]
)
def test_builtin_exceptions_with_their_own_ideas(name):
    error = errors.from_object(
        {"code": -32000, "message": "", "data": {"type": name, "message": "it 'broke'"}}
    )
    assert isinstance(error, errors.RemoteError) and str(error) == "it 'broke'"


def test_every_code_of_the_protocol_has_an_exception():
    text = (ROOT / "docs/protocol.md").read_text()
    named = {int(code): name for code, name in re.findall(r"^\| (-32\d+) \| `(\w+)`", text, re.M)}
    assert len(named) > 10
    for code, name in named.items():
        error = errors.from_object({"code": code, "message": name})
        if code > -32600 or code in (-32601, -32602):
            assert type(error).__name__ == {"CallFailed": "RemoteError"}.get(name, name)


def protocol_bytes(name: str) -> bytes:
    text = (ROOT / "docs/protocol.md").read_text()
    block = re.search(rf"```hex {name}\n(.*?)```", text, re.S)[1]
    return bytes.fromhex("".join(line.split(";")[0] for line in block.splitlines()))


def test_records_are_those_of_the_protocol():
    (call,) = records.unpack_calls(protocol_bytes("call"), [])
    assert (call.seq, call.remaining_ms, call.items, call.flags) == (1, 0, 0, 0)
    assert (call.id, call.method, bytes(call.params), call.frames) == (b"1", "multiply", b"[5,3]", [])
    frames = [b"x" * 45 + b"p" * 5000 + b"y", b"attachment"]
    (own,) = records.unpack_calls(protocol_bytes("call-own-frame"), frames)
    assert (own.seq, own.remaining_ms, own.method, own.id) == (2, 500, "store", b'"b"')
    assert bytes(own.params) == b"p" * 5000 and own.frames == [b"attachment"]
    assert own.flags == records.OWN_FRAME | records.FRAMES
    assert records.pack_reply(call.dispatch, 12, 1, 0, 0, b"15") == protocol_bytes("reply")
    whole = records.OWN_FRAME | records.WHOLE
    assert records.pack_reply(own.dispatch, 4096, 1, whole, 1, bytes(70_000)) == protocol_bytes(
        "reply-own-frame"
    )
    ((slot, seq, dispatch),) = records.unpack_slot_calls(protocol_bytes("slot-call"))
    assert (slot, seq) == (3, 8)
    assert records.pack_recalled(slot, seq, dispatch, True) == protocol_bytes("recalled")


def test_commands_are_those_of_the_protocol():
    text = (ROOT / "docs/protocol.md").read_text()
    rows = re.findall(r"^\| 0x([0-9a-f]{2}) \| `(\w+)` \|", text, re.M)
    assert {name.upper(): int(byte, 16) for byte, name in rows} == {
        c.name.replace("_", ""): c.value for c in records.Command
    }
    assert records.read_command(b"\x01\x90") is records.Command.CALLS
    assert records.read_command(b"\x02\x90") is None and records.read_command(b"\x01\x77") is None


def test_apply_asks_for_what_it_does_not_know():
    import pickle

    content = pickle.dumps(abs)
    arguments = shipped.dump(((-3,), {}))
    assert shipped.apply("h1", arguments) == {"missing": "h1"}
    assert pickle.loads(shipped.apply("h1", arguments, define={"h1": content})[0]) == 3
    assert pickle.loads(shipped.apply("h1", arguments)[0]) == 3


def test_inside_is_harmless_outside():
    muster.progress(1, 2)
    assert muster.cancelled() is False


def test_the_package_is_typed():
    assert os.path.exists(os.path.join(os.path.dirname(muster.__file__), "py.typed"))


def test_programs_are_found_in_muster_bin_and_then_on_path(tmp_path, monkeypatch):
    from muster.private import StartError, find_program

    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        (folder / "muster-x").touch(mode=0o755)
    monkeypatch.setenv("MUSTER_BIN", str(first))
    monkeypatch.setenv("PATH", str(second))
    assert find_program("muster-x") == str(first / "muster-x")
    (first / "muster-x").unlink()
    assert find_program("muster-x") == str(second / "muster-x")
    with pytest.raises(StartError, match="muster-y is neither in MUSTER_BIN .* nor on PATH"):
        find_program("muster-y")


def test_pyzmq_is_all_it_needs():
    script = (
        "import sys\n"
        "for name in ('numpy', 'cloudpickle', 'joblib', 'tqdm'): sys.modules[name] = None\n"
        "import muster, muster.aio, muster.executor, muster.serve\n"
        "from muster.library import Library\n"
        "try: Library().pack(lambda x: x)\n"
        "except muster.NotPicklable as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert "pip install cloudpickle" in done.stdout, done.stderr


class Sized:
    """Chunks that are answered at once, of items of so many bytes, for a pool of one slot."""

    method, items_max, per_slot = "m", 1_000_000, 2

    def __init__(self, item_bytes, known=None):
        self.item_bytes, self.known, self.sizes = item_bytes, known, []
        self.link = types.SimpleNamespace(cancel=lambda ids: None)

    def method_of(self, name):
        return types.SimpleNamespace(slots=1)

    def send(self, items, sink, attempts_max):
        self.sizes.append(len(items))
        sink(b"", [], None)
        return len(self.sizes), len(items) * self.item_bytes

    def read(self, body, frames, count):
        return [None] * count, {}

    def item_seconds(self, told):
        return self.known

    def learn(self, item_seconds):
        self.known = item_seconds


def map_sizes(chunks, count):
    pool = types.SimpleNamespace(method=chunks.method_of, link=chunks.link)
    assert len(mapping.Work(pool, chunks, range(count), None, False).collect(False)) == count
    return chunks.sizes


def test_the_first_chunk_of_a_known_function_is_small_and_the_next_is_not():
    unknown = map_sizes(Sized(8), 100_000)
    assert unknown[:2] == [1, 1]
    assert map_sizes(Sized(8, known=1e-6), 100_000)[:2] == [mapping.FIRST_ITEMS, 25_000]
    assert map_sizes(Sized(8, known=1.0), 10)[:2] == [1, 1]


def test_a_chunk_of_large_items_holds_what_a_message_should():
    sizes = map_sizes(Sized(100_000, known=1e-6), 10_000)
    assert sizes[0] == mapping.FIRST_ITEMS and max(sizes[1:]) == mapping.CHUNK_BYTES // 100_000


def test_a_small_chunk_does_not_make_the_next_ones_small():
    chunks = Sized(8, known=1e-6)
    work = mapping.Work(
        types.SimpleNamespace(method=chunks.method_of, link=chunks.link), chunks, range(1_000_000), None, False
    )
    size = work._size
    work._under_way[0] = small = mapping._Chunk(0, [0] * 64)
    small.sent = time.monotonic() - 0.002
    work._judge(small, b"", [], None)
    assert work._size == size == 100_000
    small.sent = time.monotonic() - 1.0
    work._judge(small, b"", [], None)
    assert work._size < 64


class Deadly(Sized):
    """Chunks with an item that ends whatever runs it."""

    def __init__(self, culprit):
        super().__init__(8, known=1e-6)
        self.culprit, self.losses = culprit, []

    def send(self, items, sink, attempts_max):
        self.sizes.append(len(items))
        lost = None
        if self.culprit in items:
            # As often as a chunk, a part of one and a single item are started.
            self.losses.append(attempts_max or 3)
            lost = muster.WorkerLost(-32002, "lost", {"attempts": []})
        sink(b"", [], lost)
        return len(self.sizes), len(items) * 8


def test_an_item_that_ends_its_process_is_found_with_few_losses():
    chunks = Deadly(61_234)
    pool = types.SimpleNamespace(method=chunks.method_of, link=chunks.link)
    outcome = mapping.Work(pool, chunks, range(250_000), None, False).collect(True)
    assert isinstance(outcome.pop(61_234), muster.WorkerLost)
    assert len(outcome) == 249_999 and set(outcome) == {None}
    # 62,500, 3,907, 245, 16 and one item.
    assert chunks.losses == [2, 1, 1, 1, 3]
