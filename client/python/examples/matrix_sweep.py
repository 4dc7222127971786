"""Sweep a parameter of a matrix: arrays travel as frames, `@pool.parallel` splits them."""

import numpy

import muster


def spectral_radius(matrix: numpy.ndarray, damping: float) -> float:
    """The largest absolute eigenvalue of a damped matrix."""
    return float(abs(numpy.linalg.eigvals(matrix * damping)).max())


if __name__ == "__main__":
    rng = numpy.random.default_rng(2)
    matrix = rng.random((100, 100)) / 100
    with muster.Pool(4) as pool:
        radii = pool.starmap(spectral_radius, [(matrix, step / 4) for step in range(1, 5)])
        for step, radius in enumerate(radii, 1):
            print(f"damping {step / 4:.2f}: radius {radius:.4f}")

        @pool.parallel
        def product(a: numpy.ndarray, b: numpy.ndarray) -> numpy.ndarray:
            return a * b

        a, b = rng.random((64, 48)), rng.random((64, 48))
        print("the parallel product is the local one:", product(a, b).tobytes() == (a * b).tobytes())
