"""Quicksort with the halves on the workers, down to where a call costs more than it saves."""

import random

import muster

SMALL = 5_000


def quicksort(values: list[int]) -> list[int]:
    """Plain quicksort, for a worker."""
    if len(values) < 2:
        return values
    pivot = values[len(values) // 2]
    left = [value for value in values if value < pivot]
    right = [value for value in values if value > pivot]
    return quicksort(left) + [value for value in values if value == pivot] + quicksort(right)


def start(pool: muster.Pool, values: list[int]) -> list[muster.Future | list[int]]:
    """The sorted list in pieces: futures of small parts, and pivots between them."""
    if len(values) <= SMALL:
        return [pool.submit(quicksort, values)]
    pivot = values[len(values) // 2]
    left = start(pool, [value for value in values if value < pivot])
    right = start(pool, [value for value in values if value > pivot])
    return [*left, [value for value in values if value == pivot], *right]


if __name__ == "__main__":
    rng = random.Random(4)
    values = [rng.randrange(1_000_000) for _ in range(50_000)]
    with muster.Pool(4) as pool:
        pieces = start(pool, values)
        ordered = [
            value
            for piece in pieces
            for value in (piece.result() if isinstance(piece, muster.Future) else piece)
        ]
    print(f"sorted {len(ordered)} numbers: {ordered == sorted(values)}")
