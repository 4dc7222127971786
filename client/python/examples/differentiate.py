"""Numeric differentiation: the functions themselves are arguments, lambdas among them."""

import math
from collections.abc import Callable

import muster


def differentiate(function: Callable[[float], float], at: list[float], step: float = 1e-5) -> list[float]:
    """Central differences of a function at several places."""
    return [(function(x + step) - function(x - step)) / (2 * step) for x in at]


if __name__ == "__main__":
    functions = {
        "x**2": lambda x: x**2,
        "sin x": math.sin,
        "exp(-x)": lambda x: math.exp(-x),
    }
    places = [0.0, 0.5, 1.0]
    with muster.Pool(4) as pool:
        derive = pool.remote(differentiate)
        slopes = {name: derive(function, places) for name, function in functions.items()}
        for name, future in slopes.items():
            print(f"{name:8}", " ".join(f"{slope:8.5f}" for slope in future.result()))
