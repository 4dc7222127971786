"""A hyper-parameter search through joblib, as scikit-learn makes them: ridge regression by hand."""

import itertools

import joblib
import numpy

import muster.joblib  # noqa: F401  registers the backend

POWERS, PENALTIES, FOLDS = range(1, 7), (1e-6, 1e-3, 1e-1), 5


def score(x: numpy.ndarray, y: numpy.ndarray, power: int, penalty: float) -> float:
    """The mean squared error of a polynomial fit, cross-validated."""
    features = numpy.vander(x, power + 1)
    errors = []
    for fold in range(FOLDS):
        held = numpy.arange(len(x)) % FOLDS == fold
        train, target = features[~held], y[~held]
        weights = numpy.linalg.solve(train.T @ train + penalty * numpy.eye(power + 1), train.T @ target)
        errors.append(float(numpy.mean((features[held] @ weights - y[held]) ** 2)))
    return sum(errors) / FOLDS


if __name__ == "__main__":
    rng = numpy.random.default_rng(3)
    x = rng.uniform(-1, 1, 200)
    y = 4 * x**3 - 2 * x + rng.normal(0, 0.1, 200)
    grid = list(itertools.product(POWERS, PENALTIES))
    with joblib.parallel_config("muster", n_jobs=4):
        scores = joblib.Parallel()(joblib.delayed(score)(x, y, *point) for point in grid)
    best = min(zip(scores, grid, strict=True))
    print(f"best of {len(grid)}: power {best[1][0]}, penalty {best[1][1]:g}, error {best[0]:.4f}")
