"""Change the number of workers while jobs run: none is lost."""

import os
import time

import muster


def work(n: int) -> tuple[int, int]:
    time.sleep(0.02)
    return n, os.getpid()


def wait_for_slots(pool: muster.Pool, slots: int) -> None:
    while pool.status()["slots"]["total"] != slots:
        time.sleep(0.01)


if __name__ == "__main__":
    with muster.Pool(2) as pool:
        jobs = [pool.submit(work, n) for n in range(100)]
        pool.scale(6)
        wait_for_slots(pool, 6)
        print("grown to 6")
        pool.scale(2)
        wait_for_slots(pool, 2)
        print("shrunk to 2")
        done = [job.result() for job in jobs]
    print(f"{len(done)} jobs done, in order: {[n for n, _ in done] == list(range(100))}")
    print("more than two processes took part:", len({pid for _, pid in done}) > 2)
