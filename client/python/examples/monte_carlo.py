"""Estimate pi by throwing darts, each batch with a seed of its own: any worker gives the same."""

import random

import muster

BATCHES, DARTS = 64, 20_000


def throw(seed: int) -> int:
    """How many of the darts land in the quarter circle."""
    rng = random.Random(seed)
    return sum(rng.random() ** 2 + rng.random() ** 2 <= 1 for _ in range(DARTS))


if __name__ == "__main__":
    with muster.Pool(4) as pool:
        hits = sum(pool.map(throw, range(BATCHES)))
    print(f"pi is about {4 * hits / (BATCHES * DARTS):.5f} after {BATCHES * DARTS:,} darts")
