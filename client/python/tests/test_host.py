"""What `muster-worker` does for Python functions, beside what every worker does."""

import subprocess
import sys

import pytest
from conftest import METHODS, PATIENCE, Cluster, kill, program, wait_for

import muster


def test_an_init_hook_runs_once_in_each_process(cluster: Cluster):
    cluster.host("--init", f"{METHODS}:prepare")
    pool = cluster.connect(slots=2)
    seen = dict(pool.map("how_prepared", range(50), 1))
    assert set(seen.values()) == {1}
    kill(next(iter(seen)))
    wait_for(lambda: len(set(dict(pool.map("how_prepared", range(20), 1))) - set(seen)), "its successor")
    assert set(dict(pool.map("how_prepared", range(50), 1)).values()) == {1}


@pytest.mark.parametrize(
    ("init", "said"), [("nobody", "MODULE:FUNCTION"), (f"{METHODS}:nobody", "has no nobody")]
)
def test_a_hook_that_is_not_there_is_named(cluster: Cluster, init: str, said: str):
    command = [program("muster-worker"), "--python", str(METHODS), "--interpreter", sys.executable]
    done = subprocess.run(
        [*command, "--init", init, "--runtime-dir", str(cluster.folder)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode != 0 and said in done.stderr


def test_muster_can_be_imported_without_the_package(cluster: Cluster, tmp_path):
    (tmp_path / "bare.py").write_text(
        "import muster, os\n"
        "@muster.once\n"
        "def single(): return muster.call_id()\n"
        "def where(): return getattr(muster, '__file__', None)\n"
        "def connect():\n    return muster.connect()\n"
        "def told(n):\n    muster.progress(1, n); return muster.cancelled()\n"
    )
    # `-I`: no PYTHONPATH and no packages of the user.
    interpreter = tmp_path / "python"
    interpreter.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    interpreter.chmod(0o755)
    cluster.spawn(
        program("muster-worker"), "--python", str(tmp_path / "bare.py"), "--interpreter", str(interpreter)
    )
    pool = cluster.connect(slots=1)
    assert pool.call("where") is None and pool.method("single").once
    assert pool.call("single").startswith("c")
    progress = []
    listening = pool.options(on_progress=lambda *said: progress.append(said))
    assert listening.call("told", 4) is False and progress == [(1, 4)]
    with pytest.raises(AttributeError, match="muster-pool"):
        pool.call("connect")


def test_without_allow_apply_the_refusal_is_clear(cluster: Cluster):
    cluster.host()
    pool = cluster.connect(slots=2)
    with pytest.raises(muster.ApplyNotAllowed, match="--allow-apply"):
        pool.call(lambda: 1)


def test_allow_apply_alone_offers_nothing_else(cluster: Cluster):
    cluster.spawn(program("muster-worker"), "--allow-apply", "--interpreter", sys.executable, "-n", "1")
    pool = cluster.connect(slots=1)
    assert [method.name for method in pool.methods()] == ["muster.apply"]
    assert pool.workers()[0]["allow_apply"] is True
    assert pool.map(lambda x: x * x, range(1000)) == [x * x for x in range(1000)]

    async def later(x):
        return x + 1

    assert pool.call(later, 1) == 2 and pool.map(later, [1, 2]) == [2, 3]


def test_keyless_tcp_takes_no_worker_that_runs_anything(cluster: Cluster):
    kill(cluster.broker.pid)
    cluster.broker.wait()
    cluster.start_broker("--listen", "tcp://127.0.0.1:0")
    worker = subprocess.run(
        [
            program("muster-worker"),
            "--allow-apply",
            "--interpreter",
            sys.executable,
            "--cluster",
            "t",
            "--runtime-dir",
            str(cluster.folder),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert worker.returncode != 0 and "without keys" in worker.stderr


def test_arrays_bytes_and_what_cannot_be_carried(pool):
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(12.0).reshape(3, 4)
    assert (pool.call("doubled", array) == array * 2).all()
    assert pool.call("doubled", array.T).shape == (4, 3)
    assert [list(part) for part in pool.map("doubled", [array[0], array[1]])] == [
        list(array[0] * 2),
        list(array[1] * 2),
    ]
    for kind, named in (("set", "set"), ("nan", "nan"), ("object", "object object")):
        with pytest.raises(TypeError, match=named):
            pool.call("uncarried", kind)
    # A look-alike of an array is none.
    for value in ({"$array": 1, "dtype": 2}, {"$frame": 0}, {"$literal": {"x": 1}}):
        assert pool.call("echo", value) == value
