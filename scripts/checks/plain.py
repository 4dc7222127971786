#!/usr/bin/env python3
"""`muster-worker --plain` behind a stock ROUTER/DEALER broker: pyzmq's own proxy.

Four clients ask, two slots answer, and nothing of ours is in between. Needs pyzmq.
"""

import pathlib
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "parts"))
from private_cluster import PROGRAMS, build

try:
    import zmq
except ImportError:
    sys.exit("pyzmq is missing: python3 -m pip install pyzmq")

CLIENTS, CALLS = 4, 50


def broker(context, frontend, backend):
    """The queue of every ZeroMQ tutorial, until the context ends."""
    try:
        zmq.proxy(frontend, backend)
    except zmq.ContextTerminated:
        pass
    finally:
        frontend.close(0)
        backend.close(0)


def client(context, endpoint, number, wrong):
    """Asks for products and checks each."""
    sock = context.socket(zmq.REQ)
    sock.setsockopt(zmq.LINGER, 0)
    sock.setsockopt(zmq.RCVTIMEO, 20_000)
    sock.connect(endpoint)
    try:
        for call in range(CALLS):
            sock.send_json({"jsonrpc": "2.0", "method": "multiply", "params": [number, call], "id": call})
            reply = sock.recv_json()
            if reply != {"jsonrpc": "2.0", "result": number * call, "id": call}:
                wrong.append(reply)
    except zmq.ZMQError as error:
        wrong.append(str(error))
    finally:
        sock.close(0)


def main():
    build()
    context = zmq.Context()
    frontend, backend = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    front = f"tcp://127.0.0.1:{frontend.bind_to_random_port('tcp://127.0.0.1')}"
    back = f"tcp://127.0.0.1:{backend.bind_to_random_port('tcp://127.0.0.1')}"
    threading.Thread(target=broker, args=(context, frontend, backend), daemon=True).start()
    with tempfile.TemporaryFile() as log:
        worker = subprocess.Popen([PROGRAMS / "muster-worker", "-n", "2", "--plain", back], stdout=log, stderr=log)
        wrong = []
        clients = [threading.Thread(target=client, args=(context, front, n, wrong)) for n in range(CLIENTS)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
        worker.terminate()
        ended = worker.wait(timeout=20)
        if wrong or ended != 0:
            log.seek(0)
            print(log.read().decode(errors="replace"))
    context.term()
    print(f"{CLIENTS} clients, {CALLS} calls each, 2 slots: {len(wrong)} wrong; the worker ended with {ended}")
    for reply in wrong[:5]:
        print(reply)
    return 1 if wrong or ended != 0 else 0


if __name__ == "__main__":
    sys.exit(main())
