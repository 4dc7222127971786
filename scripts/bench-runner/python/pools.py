"""The Python pools, side by side: reads what to measure line by line, answers with seconds.

python pools.py [CONNECTION_FILE]: without a file only the standard library's pools are there.
"""

import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import Pool

from square import square


def check(results, count):
    assert len(results) == count, len(results)
    assert results[-1] == (count - 1) ** 2, results[-1]


def futures(submit, count):
    return [future.result() for future in [submit(i) for i in range(count)]]


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
        measures |= {
            "hosted-map": lambda n: hosted.map("square", range(n)),
            "shipped-map": lambda n: shipping.map(lambda x: x * x, range(n)),
            "hosted-submit": lambda n: futures(lambda i: hosted.submit("square", i), n),
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
