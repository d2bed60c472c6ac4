"""Fits of the profiles that long tails are described by: exponential, Pareto, Zipf.

With the counts of the non-empty classes in falling order, n_0 >= ... >= n_{C-1}, and the rank r = 0 .. C - 1:

* ``exponential``: ln n = a - b r; its figure is the imbalance factor exp(b (C - 1)) (Cui et al., CVPR 2019; LDAM, 2019)
* ``pareto``: the quantiles of `ltdata.profiles`: n = n_min + (n_max - n_min) (q_r - q_{C-1}) / (q_0 - q_{C-1}) with
  q_r = (2 r + 1) ** (-1 / alpha); its figure is alpha (OLTR, CVPR 2019, drew ImageNet-LT with 6)
* ``zipf``: ln n = a - s ln(r + 1); its figure is the exponent s (Zipf 1949)

All three are least squares of ln n, so that R2 and AICc, which are of the residuals of ln n, can be compared.

**What the intervals mean.** They are the usual 95 % intervals of least squares, with Student's t. Sorted counts are not
independent draws: their residuals go together, and a drawn profile has no noise but rounding. So an interval says how
far the figure is determined by this curve, not where it would lie in another sample, and is too narrow for that.

>>> found = fit_all(np.array([64, 32, 16, 8, 4, 2, 1]))
>>> round(found["exponential"].value), best(found)
(64, 'exponential')
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FAMILIES = {"exponential": "imbalance factor", "pareto": "alpha", "zipf": "exponent"}  # and the figure of each
TITLES = {"exponential": "exponential", "pareto": "Pareto", "zipf": "Zipf"}
_LEAST_CLASSES = {"exponential": 3, "pareto": 6, "zipf": 3}
_EXACT = 1e-18  # mean square of ln n from which a fit is exact: below it only float64's rounding is left
_STEEPEST, _FLATTEST = 100.0, 1e-3  # 1 / alpha in the range of `ltdata.profiles.check_alpha`


@dataclass(frozen=True)
class Fit:
    """Report the least-squares fit of a family.

    Attributes:
        value: the figure named in `FAMILIES`.
        low: lower end of its 95 % interval; None where alpha ends at a border of its range, 0.01 .. 1000.
        high: upper end.
        r_squared: 1 - (sum of squared residuals of ln n) / (sum of squares of ln n about its mean); at most 1.
        aicc: C ln(RSS / C) + 2 k + 2 k (k + 1) / (C - k - 1), where k counts the parameters and the variance (Hurvich
            and Tsai, 1989); lower is better; None with too few classes.
        ks: the largest distance between the cumulative shares of images of curve and counts over the ranks, 0 .. 1
            (the statistic of Kolmogorov and Smirnov, without its p-value, which independent draws would need).
        largest: the curve at rank 0.
        smallest: the curve at the last rank.
    """

    value: float
    low: float | None
    high: float | None
    r_squared: float
    aicc: float | None
    ks: float
    largest: float
    smallest: float


def fit_all(class_counts: NDArray[np.integer]) -> dict[str, Fit | None]:
    """Fit every family to class counts, (C,), in any order; None where there is nothing to fit.

    Nothing to fit: fewer than three non-empty classes (for Pareto six), or all of one size.
    """
    n = np.sort(class_counts[class_counts > 0])[::-1].astype(np.float64)
    fitters = {"exponential": _exponential, "pareto": _pareto, "zipf": _zipf}
    return {
        family: fitters[family](n) if len(n) >= least and n[0] > n[-1] else None
        for family, least in _LEAST_CLASSES.items()
    }


def best(fits: Mapping[str, Fit | None]) -> str | None:
    """Name the family with the lowest AICc; None where fewer than two can be compared."""
    scores = {family: fit.aicc for family, fit in fits.items() if fit is not None and fit.aicc is not None}
    return min(scores, key=lambda family: scores[family]) if len(scores) > 1 else None


def curve(family: str, fit: Fit, *, classes: int, ranks: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compute the fitted images per class at ranks, 0 for the largest class, which may lie between two classes.

    Args:
        family: one of `FAMILIES`.
        fit: of that family.
        classes: that the fit was made of: those that are not empty.
        ranks: 0 .. classes - 1, any shape.
    """
    r = np.asarray(ranks, dtype=np.float64)
    if family == "exponential":
        return np.asarray(fit.largest * (fit.smallest / fit.largest) ** (r / (classes - 1)))
    if family == "zipf":
        return np.asarray(fit.largest * (r + 1) ** -fit.value)
    return np.asarray(fit.smallest + (fit.largest - fit.smallest) * _fall(r, classes, 1 / fit.value))


def _exponential(n: NDArray[np.float64]) -> Fit:
    slope, intercept, margin = _line(np.arange(len(n), dtype=np.float64), n)
    last = len(n) - 1
    low, value, high = (math.exp(b * last) for b in (slope - margin, slope, slope + margin))
    fitted = intercept - slope * np.arange(len(n), dtype=np.float64)
    return _fit(n, fitted, value=value, low=low, high=high, parameters=2)


def _zipf(n: NDArray[np.float64]) -> Fit:
    ranks = np.log(np.arange(1, len(n) + 1))
    slope, intercept, margin = _line(ranks, n)
    return _fit(n, intercept - slope * ranks, value=slope, low=slope - margin, high=slope + margin, parameters=2)


def _line(x: NDArray[np.float64], n: NDArray[np.float64]) -> tuple[float, float, float]:
    """Fit ln n = a - b x; return b, a, and half the width of b's 95 % interval."""
    from scipy.stats import linregress, t  # 0.7 s to import: only where it is used

    line = linregress(x, np.log(n))
    return -float(line.slope), float(line.intercept), float(t.ppf(0.975, len(n) - 2) * line.stderr)


def _pareto(n: NDArray[np.float64]) -> Fit:
    """Fit ln n_max, ln n_min and p = 1 / alpha; p, in which the curve is smooth down to a logarithm at p = 0."""
    from scipy.optimize import least_squares
    from scipy.stats import t

    target, r = np.log(n), np.arange(len(n), dtype=np.float64)

    def residuals(theta: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(logarithms(theta) - target)

    def logarithms(theta: NDArray[np.float64]) -> NDArray[np.float64]:
        largest, smallest, power = theta
        fall = _fall(r, len(n), power)
        return np.asarray(np.logaddexp(largest + np.log(np.maximum(fall, 1e-300)), smallest + np.log1p(-fall * _UNDER)))

    bounds = ([-np.inf, -np.inf, _FLATTEST], [np.inf, np.inf, _STEEPEST])
    found = min(
        (
            least_squares(
                residuals,
                [target[0], target[-1], power],
                bounds=bounds,
                x_scale=[1.0, 1.0, power],
                xtol=1e-12, ftol=1e-12, gtol=1e-12,
            )
            for power in (1 / 6, 1.0)
        ),
        key=lambda each: each.cost,
    )  # fmt: skip
    power = float(found.x[2])
    fitted = logarithms(found.x)
    low, high = None, None
    if _FLATTEST * 1.01 < power < _STEEPEST / 1.01:
        freedom, jacobian = len(n) - 3, np.asarray(found.jac, dtype=np.float64)
        inverse = np.linalg.pinv(jacobian.T @ jacobian)
        margin = float(t.ppf(0.975, freedom) * math.sqrt(max(inverse[2, 2], 0.0) * 2 * found.cost / freedom))
        low, high = 1 / (power + margin), 1 / max(power - margin, _FLATTEST)
    return _fit(n, fitted, value=1 / power, low=low, high=high, parameters=3)


_UNDER = 1 - 1e-12  # keeps ln(1 - fall) finite at the first rank


def _fall(r: NDArray[np.float64], classes: int, power: float) -> NDArray[np.float64]:
    """Compute (q_r - q_{C-1}) / (q_0 - q_{C-1}) with q_r = (2 r + 1) ** -power: 1 at the first rank, 0 at the last."""
    last = math.expm1(-power * math.log(2 * classes - 1))
    return np.asarray(1 - np.expm1(-power * np.log(2 * r + 1)) / last)


def _fit(
    n: NDArray[np.float64],
    fitted: NDArray[np.float64],
    *,
    value: float,
    low: float | None,
    high: float | None,
    parameters: int,
) -> Fit:
    """Judge fitted logarithms, (C,)."""
    target, count = np.log(n), len(n)
    rss = float(((target - fitted) ** 2).sum())
    k = parameters + 1
    corrected = 2 * k + 2 * k * (k + 1) / (count - k - 1) if count > k + 1 else None
    shares = np.exp(fitted - fitted.max())
    distance = np.abs(np.cumsum(n) / n.sum() - np.cumsum(shares) / shares.sum()).max()
    return Fit(
        value=value,
        low=low,
        high=high,
        r_squared=1 - rss / float(((target - target.mean()) ** 2).sum()),
        aicc=count * math.log(max(rss / count, _EXACT)) + corrected if corrected is not None else None,
        ks=float(distance),
        largest=math.exp(fitted[0]),
        smallest=math.exp(fitted[-1]),
    )
