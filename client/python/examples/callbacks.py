"""Sum a series in parts, added up by callbacks as the parts come in."""

import threading

import muster

PARTS, TERMS = 20, 100_000


def part_sum(start: int, end: int) -> float:
    """A part of 1 - 1/2 + 1/3 - … = ln 2."""
    return sum((1 if n % 2 else -1) / n for n in range(start, end))


class Total:
    """Callbacks run on the connection's thread, one after the other; the lock is for whoever reads."""

    def __init__(self) -> None:
        self.value = 0.0
        self.lock = threading.Lock()

    def add(self, part: float) -> None:
        with self.lock:
            self.value += part


if __name__ == "__main__":
    total = Total()
    with muster.Pool(4) as pool:
        for part in range(PARTS):
            pool.apply_async(part_sum, (1 + part * TERMS, 1 + (part + 1) * TERMS), callback=total.add)
        pool.close()
        pool.join()
    print(f"ln 2 is about {total.value:.6f}")
