"""Brokers and workers that die, freeze and come back."""

import os
import signal
import subprocess
import sys
import threading

import pytest
from conftest import Cluster, kill, wait_for

import muster

WORKERS = ["serve", "host"]


def start(cluster: Cluster, kind: str, slots: int = 2, *options: str):
    return getattr(cluster, kind)(*options, slots=slots)


@pytest.mark.parametrize("kind", WORKERS)
def test_kill_9_of_slots_in_the_middle(cluster: Cluster, kind: str):
    start(cluster, kind, 3)
    pool = cluster.connect(slots=3)
    futures = [pool.submit("slow_square", n) for n in range(300)]
    for _ in range(3):
        kill(pool.call("pid"))
    assert [future.result(60) for future in futures] == [n * n for n in range(300)]
    assert pool.status()["calls"]["lost"] == 0


@pytest.mark.parametrize("kind", WORKERS)
def test_kill_9_of_a_whole_worker_and_another_comes(cluster: Cluster, kind: str):
    first = start(cluster, kind)
    pool = cluster.connect(slots=2)
    futures = [pool.submit("slow_square", n) for n in range(200)]
    futures[20].result(60)
    kill(first.pid)
    start(cluster, kind)
    assert [future.result(60) for future in futures] == [n * n for n in range(200)]


@pytest.mark.parametrize("kind", WORKERS)
def test_the_slots_of_a_killed_worker_end_too(cluster: Cluster, kind: str):
    worker = start(cluster, kind)
    pool = cluster.connect(slots=2)
    pids = {pool.submit("nap", 0.2) for _ in range(2)}
    pids = {future.result(30) for future in pids}
    kill(worker.pid)
    wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), "the slots to end")


@pytest.mark.parametrize("kind", WORKERS)
def test_a_restarted_broker_gets_its_calls_again(cluster: Cluster, kind: str):
    start(cluster, kind)
    pool = cluster.connect(slots=2)
    futures = [pool.submit("slow_square", n) for n in range(200)]
    futures[20].result(60)
    kill(cluster.broker.pid)
    cluster.broker.wait()
    cluster.start_broker()
    assert [future.result(60) for future in futures] == [n * n for n in range(200)]
    assert pool.call("square", 4) == 16


def test_a_map_outlives_its_broker(cluster: Cluster):
    cluster.serve()
    pool = cluster.connect(slots=2)
    results = pool.imap("slow_square", range(300), 10)
    first = [next(results) for _ in range(30)]
    kill(cluster.broker.pid)
    cluster.broker.wait()
    cluster.start_broker()
    assert first + list(results) == [n * n for n in range(300)]


def test_what_must_not_run_twice_does_not(cluster: Cluster, tmp_path):
    cluster.serve()
    pool = cluster.connect(slots=2)
    assert pool.method("append").once
    file = tmp_path / "lines"
    future = pool.submit("append", str(file), "x", 30)
    wait_for(file.exists, "the call to run")
    kill(cluster.broker.pid)
    cluster.broker.wait()
    cluster.start_broker()
    with pytest.raises(muster.UnknownOutcome):
        future.result(60)
    assert file.read_text() == "x\n"


def test_a_once_call_whose_worker_dies_is_lost(cluster: Cluster, tmp_path):
    worker = cluster.serve(slots=1)
    pool = cluster.connect(slots=1)
    file = tmp_path / "lines"
    future = pool.submit("append", str(file), "x", 30)
    wait_for(file.exists, "the call to run")
    kill(worker.pid)
    with pytest.raises(muster.WorkerLost):
        future.result(60)
    assert file.read_text() == "x\n"


def test_a_broker_that_does_not_come_back(cluster: Cluster, monkeypatch):
    cluster.serve()
    pool = cluster.connect(slots=2)
    monkeypatch.setattr(pool.link._transport, "_patience", 0.5)
    future = pool.submit("nap", 30)
    kill(cluster.broker.pid)
    with pytest.raises(muster.BrokerLost):
        future.result(30)
    with pytest.raises(muster.BrokerLost):
        pool.call("pid")


@pytest.mark.parametrize("kind", WORKERS)
def test_a_call_that_kills_its_worker_is_given_up(cluster: Cluster, kind: str):
    start(cluster, kind)
    pool = cluster.connect(slots=2)
    with pytest.raises(muster.WorkerLost) as caught:
        pool.call("die")
    assert len(caught.value.data["attempts"]) == 3
    with pytest.raises(muster.WorkerLost) as caught:
        pool.options(attempts=1).call("die")
    assert len(caught.value.data["attempts"]) == 1
    assert pool.map("square", range(100)) == [n * n for n in range(100)]


def test_a_drained_worker_finishes_and_leaves(cluster: Cluster):
    worker = cluster.serve()
    pool = cluster.connect(slots=2)
    futures = [pool.submit("nap", 0.5) for _ in range(2)]
    wait_for(lambda: pool.status()["calls"]["running"] == 2, "two running calls")
    worker.terminate()
    assert all(future.result(30) for future in futures)
    assert worker.wait(30) == 0
    assert pool.workers() == []


def test_scaling_under_load_loses_nothing(cluster: Cluster):
    cluster.serve(slots=2)
    pool = cluster.connect(slots=2)
    futures = [pool.submit("slow_square", n) for n in range(300)]
    pool.scale(5)
    wait_for(lambda: pool.status()["slots"]["total"] == 5, "five slots")
    pool.scale(1)
    wait_for(lambda: pool.status()["slots"]["total"] == 1, "one slot")
    assert [future.result(60) for future in futures] == [n * n for n in range(300)]


def test_a_frozen_worker_is_worked_around(cluster: Cluster):
    frozen = cluster.serve(slots=1)
    cluster.serve(slots=1)
    pool = cluster.connect(slots=2)
    slots = [
        slot["pid"]
        for worker in pool.workers()
        for slot in worker["slot_states"]
        if worker["pid"] == frozen.pid
    ]
    stopped = [frozen.pid, *slots]
    try:
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        assert [pool.submit("square", n).result(60) for n in range(50)] == [n * n for n in range(50)]
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


def test_many_threads_share_a_pool(cluster: Cluster):
    cluster.serve()
    pool = cluster.connect(slots=2)
    failures = []

    def work(base: int) -> None:
        for n in range(50):
            if pool.call("echo", [base, n]) != [base, n]:
                failures.append((base, n))

    threads = [threading.Thread(target=work, args=(base,)) for base in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []


def test_threads_submit_while_others_cancel(cluster: Cluster):
    cluster.serve()
    pool = cluster.connect(slots=2)
    kept: list[muster.Future] = []

    def work() -> None:
        for n in range(400):
            future = pool.submit("square", n)
            future.cancel() if n % 2 else kept.append(future)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    results = sorted(future.result(60) for future in kept)
    assert results == sorted([n * n for n in range(0, 400, 2)] * 6)


def test_a_forked_child_has_a_connection_of_its_own(cluster: Cluster):
    cluster.serve()
    pool = cluster.connect(slots=2)
    assert pool.call("square", 2) == 4
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, str(pool.call("square", 3)).encode())
        finally:
            os._exit(0)
    os.close(write)
    assert os.read(read, 10) == b"9"
    assert os.waitpid(child, 0)[1] == 0
    os.close(read)
    assert pool.call("square", 4) == 16


def test_curve_keys_come_from_the_connection_file(cluster: Cluster, tmp_path):
    import zmq

    if not zmq.has("curve"):
        pytest.skip("pyzmq without CURVE")
    kill(cluster.broker.pid)
    cluster.broker.wait()
    state = {"XDG_STATE_HOME": str(tmp_path)}
    os.environ.update(state)
    try:
        cluster.start_broker("--listen", "tcp://127.0.0.1:0", "--curve")
    finally:
        del os.environ["XDG_STATE_HOME"]
    def files(role: str):
        return sorted(tmp_path.glob(f"muster/**/{role}*.json"))

    client = wait_for(lambda: files("client"), "a client's connection file")
    worker = wait_for(lambda: files("worker"), "a worker's connection file")
    cluster.spawn(sys.executable, "-m", "muster.serve", "operator", "-n", "1", "--connection", str(worker[0]))
    pool = muster.connect(connection=str(client[0]), timeout=20)
    pool.wait_for_slots(1)
    assert pool.call("add", 2, 2) == 4
    pool.terminate()


@pytest.mark.parametrize("call", ["pool.call('nap', 300)", "pool.map('nap', [300] * 10, 1)"])
def test_what_is_interrupted_is_cancelled(cluster: Cluster, call: str):
    cluster.serve()
    pool = cluster.connect(slots=2)
    script = (
        "import muster, os, threading, signal\n"
        f"pool = muster.connect('t', runtime_dir={str(cluster.folder)!r})\n"
        "def interrupt():\n"
        "    while not pool.status()['calls']['running']: pass\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "threading.Thread(target=interrupt, daemon=True).start()\n"
        f"{call}\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert "KeyboardInterrupt" in done.stderr

    def is_over():
        calls = pool.status()["calls"]
        return calls["cancelled"] and not calls["running"] and not calls["queued"]

    wait_for(is_over, "the calls to be cancelled")
    assert pool.call("square", 3) == 9
