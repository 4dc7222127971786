"""The sum of the primes below several limits: one call each, results as they are asked for."""

import math

import muster


def is_prime(n: int) -> bool:
    return n > 1 and all(n % d for d in range(2, math.isqrt(n) + 1))


def sum_primes(limit: int) -> int:
    """The sum of all primes below the limit. It uses another function and a module: both come along."""
    return sum(n for n in range(2, limit) if is_prime(n))


if __name__ == "__main__":
    limits = range(10_000, 18_000, 1_000)
    with muster.Pool(4) as pool:
        futures = [(limit, pool.submit(sum_primes, limit)) for limit in limits]
        for limit, future in futures:
            print(f"primes below {limit} sum to {future.result()}")
