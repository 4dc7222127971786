"""The Python pools, side by side: reads what to measure line by line, answers with seconds.

python pools.py [CONNECTION_FILE]: without a file only the standard library's pools are there.
"""

import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import Pool, Process

from square import square


def check(results, count):
    assert len(results) == count, len(results)
    assert results[-1] == (count - 1) ** 2, results[-1]


def futures(submit, count):
    return [future.result() for future in [submit(i) for i in range(count)]]


def echo_raw(endpoint):
    """Sends back what comes, in a process of its own."""
    import zmq

    socket = zmq.Context().socket(zmq.REP)
    socket.connect(endpoint)
    while True:
        socket.send(socket.recv(copy=False), copy=False)


class Arrays:
    """64 MB there and back, by the pool and by two sockets."""

    def __init__(self, hosted):
        import numpy
        import zmq

        self._folder = tempfile.TemporaryDirectory()
        endpoint = f"ipc://{self._folder.name}/raw"
        self._hosted = hosted
        self._array = numpy.random.default_rng(1).random(8 << 20)
        self._read = numpy.frombuffer
        self._socket = zmq.Context.instance().socket(zmq.REQ)
        self._socket.linger = 0
        self._socket.bind(endpoint)
        # It ends with this process.
        self._far = Process(target=echo_raw, args=(endpoint,), daemon=True)
        self._far.start()

    def hosted(self, count):
        return self._check([self._hosted.call("echo", self._array) for _ in range(count)])

    def raw(self, count):
        backs = []
        for _ in range(count):
            self._socket.send(self._array, copy=False)
            backs.append(self._read(self._socket.recv(copy=False).buffer))
        return self._check(backs)

    def _check(self, backs):
        assert all(back[-1] == self._array[-1] and len(back) == len(self._array) for back in backs)
        return [n * n for n in range(len(backs))]


def main():
    pool = Pool(4)
    measures = {
        "pool-map": lambda n: pool.map(square, range(n)),
        "pool-apply": lambda n: [r.get() for r in [pool.apply_async(square, (i,)) for i in range(n)]],
    }
    if len(sys.argv) > 1:
        import muster

        hosted = muster.connect(connection=sys.argv[1])
        hosted.wait_for_slots(4)
        shipping = muster.Pool(4)
        executor = ProcessPoolExecutor(4)
        arrays = Arrays(hosted)
        measures |= {
            "hosted-map": lambda n: hosted.map("square", range(n)),
            "shipped-map": lambda n: shipping.map(lambda x: x * x, range(n)),
            "hosted-submit": lambda n: futures(lambda i: hosted.submit("square", i), n),
            "shipped-submit": lambda n: futures(lambda i: shipping.submit(lambda x: x * x, i), n),
            "hosted-array": arrays.hosted,
            "raw-array": arrays.raw,
            "executor-submit": lambda n: futures(lambda i: executor.submit(square, i), n),
        }
    print("ready", flush=True)
    for line in sys.stdin:
        name, count = line.split()
        start = time.perf_counter()
        results = measures[name](int(count))
        elapsed = time.perf_counter() - start
        check(results, int(count))
        print(elapsed, flush=True)


if __name__ == "__main__":
    main()
