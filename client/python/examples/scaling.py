"""Change the number of workers while jobs run: none is lost."""

import os
import time

import muster


def work(n: int) -> tuple[int, int]:
    time.sleep(0.02)
    return n, os.getpid()


if __name__ == "__main__":
    with muster.Pool(2) as pool:
        jobs = [pool.submit(work, n) for n in range(400)]
        pool.scale(6)
        pool.wait_for_slots(6)
        print("grown to 6")
        while not any(job.done() for job in jobs[-150:]):
            time.sleep(0.01)
        pool.scale(2)
        while pool.status()["slots"]["total"] != 2:
            time.sleep(0.01)
        print("shrunk to 2")
        done = [job.result() for job in jobs]
    print(f"{len(done)} jobs done, in order: {[n for n, _ in done] == list(range(400))}")
    print("more than two processes took part:", len({pid for _, pid in done}) > 2)
