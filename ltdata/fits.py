"""Fits of the profiles that long tails are described by: exponential, Pareto, Zipf.

With the counts of the non-empty classes in falling order, n_0 >= ... >= n_{C-1}, and the rank r = 0 .. C - 1:

* ``exponential``: ln n = a - b r; its figure is the imbalance factor exp(b (C - 1)) (Cui et al., CVPR 2019; LDAM, 2019)
* ``pareto``: the quantiles of `ltdata.profiles`: n = n_min + (n_max - n_min) (q_r - q_{C-1}) / (q_0 - q_{C-1}) with
  q_r = (2 r + 1) ** (-1 / alpha); its figure is alpha (OLTR, CVPR 2019, drew ImageNet-LT with 6)
* ``zipf``: ln n = a - s ln(r + 1); its figure is the exponent s (Zipf 1949)

All three are least squares of ln n. Something always fits least badly; a curve **describes** the counts only from
`LEAST_R_SQUARED` and to `MOST_KS`, in at least `LEAST_CLASSES` classes. On the pinned splits that tells exponential
ones and ImageNet-LT (Pareto) from steps (R2 0.76 at best) and iNaturalist 2018 (KS 0.23), which none describes.

**What an interval means.** It bounds the figure of the shares, if the N images were dealt out at random to classes of
fixed shares: a parametric bootstrap of `RESAMPLES` multinomial samples from the curve's shares, each sorted and
fitted again. Sorting noise makes a tail steeper, in the counts as in the resamples once more, so the interval is the
basic one, value - (resample - value) (Davison and Hinkley, 1997, section 5.2): in simulations it held the true figure
88 to 98 times of 100, plain quantiles of the resamples 1 to 91 times. A profile drawn by a formula has no such noise,
so the interval is widened to hold the value. It says nothing of classes that are themselves drawn at random, as
ImageNet-LT's were; another draw of those differs by far more.

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
LEAST_R_SQUARED, MOST_KS = 0.95, 0.1
LEAST_CLASSES = 6  # with fewer a curve of three parameters describes anything
QUALITY = f"R2 >= {LEAST_R_SQUARED:g}, KS <= {MOST_KS:g}"
RESAMPLES, SEED = 400, 0
INTERVAL = "for images dealt at random to classes of fixed shares, not for classes drawn at random"
_TIE = 0.01  # of KS: curves closer than this are not ranked
_TO_FIT = {"exponential": 3, "pareto": 6, "zipf": 3}  # classes
_STEEPEST, _FLATTEST = 100.0, 1e-3  # 1 / alpha in the range of `ltdata.profiles.check_alpha`
_STARTS = (1 / 6, 1.0)
_BINS = 1000  # of ranks for Pareto's resamples: twice as fast at 8,142 classes; 1 / alpha moves by 3 % of its spread

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """Report the least-squares fit of a family.

    Attributes:
        value: the figure named in `FAMILIES`.
        low: lower end of its 95 % interval; None where the curve does not describe the counts, and where the end, the
            value, or half of the resamples are at a border of alpha's range, 0.01 .. 1000.
        high: upper end; None likewise.
        r_squared: 1 - (sum of squared residuals of ln n) / (sum of squares of ln n about its mean); at most 1.
        ks: the largest distance between the cumulative shares of images of curve and counts over the ranks, 0 .. 1
            (the statistic of Kolmogorov and Smirnov).
        ks_p: share of the resamples, the counts among them, with a distance at least as large, each from its own fit;
            small where dealing at random does not explain the distance. A guide: of dealt counts 3 to 11 % had one
            below 0.05 at 10 to 2,000 classes, 33 % at 8,142. None where the curve does not describe the counts.
        describes: whether the curve is near enough to be called the profile.
        largest: the curve at rank 0.
        smallest: the curve at the last rank.
    """

    value: float
    low: float | None
    high: float | None
    r_squared: float
    ks: float
    ks_p: float | None
    describes: bool
    largest: float
    smallest: float


def fit_all(class_counts: NDArray[np.integer], *, seed: int = SEED) -> dict[str, Fit | None]:
    """Fit every family to class counts, (C,), in any order; None where there is nothing to fit.

    Nothing to fit: fewer than three non-empty classes (for Pareto six), or all of one size. seed is the resamples'.
    """
    n = np.sort(class_counts[class_counts > 0])[::-1].astype(np.int64)
    return {
        family: _fit(family, n, seed=seed) if len(n) >= least and n[0] > n[-1] else None
        for family, least in _TO_FIT.items()
    }


def closest(fits: Mapping[str, Fit | None]) -> list[str]:
    """List the families that describe the counts, the smallest KS first; those further off than a tie are left out."""
    found = sorted((fit.ks, family) for family, fit in fits.items() if fit is not None and fit.describes)
    return [family for ks, family in found if ks <= found[0][0] + _TIE]


def best(fits: Mapping[str, Fit | None]) -> str | None:
    """Name the one family that describes the counts; None where none does, or several are equally close."""
    found = closest(fits)
    return found[0] if len(found) == 1 else None


def verdict(fits: Mapping[str, Fit | None]) -> str:
    """Say in words which family describes the counts.

    >>> verdict(fit_all(np.array([500] * 50 + [5] * 50)))
    'none of the three'
    """
    found = [TITLES[family] for family in closest(fits)]
    return f"{' and '.join(found)} alike" if len(found) > 1 else found[0] if found else "none of the three"


def figure_words(family: str, fit: Fit) -> str:
    """Write a fit's figure: a border of alpha's range is called one."""
    border = ""
    if family == "pareto":
        border = ">= " if fit.value > 0.99 / _FLATTEST else "<= " if fit.value < 1.01 / _STEEPEST else ""
    return f"{border}{fit.value:.4g}"


def interval_words(fit: Fit) -> str | None:
    """Write a fit's 95 % interval; None where it has none."""
    if fit.low is None or fit.high is None:
        one, words = (fit.low, "above") if fit.low is not None else (fit.high, "below")
        return f"{one:.4g} and {words}" if one is not None else None
    return f"{fit.low:.4g} .. {fit.high:.4g}"


def curve(family: str, fit: Fit, *, classes: int, ranks: NDArray[np.floating]) -> _Floats:
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
    fall = _fall(r, np.array(classes), np.array(1 / fit.value))[0]
    return np.asarray(fit.smallest + (fit.largest - fit.smallest) * fall)


def _fit(family: str, n: NDArray[np.int64], *, seed: int) -> Fit:
    """Fit a family to counts in falling order, (C,), judge the curve, and where it describes them resample it."""
    theta = _solve(family, n[None])
    fitted = _logarithms(family, theta, np.array([len(n)]), np.arange(len(n)))
    target = np.log(n)
    r_squared = 1 - float(((target - fitted[0]) ** 2).sum() / ((target - target.mean()) ** 2).sum())
    ks = float(_distances(n[None], fitted)[0])
    figure = float(_figures(family, theta, np.array([len(n)]))[0])
    describes = len(n) >= LEAST_CLASSES and r_squared >= LEAST_R_SQUARED and ks <= MOST_KS
    low, high, ks_p = None, None, None
    if describes:
        figures, distances = _resampled(family, fitted[0], int(n.sum()), seed=seed)
        low, high = _ends(family, figure, figures)
        ks_p = float((1 + (distances >= ks * (1 - 1e-9)).sum()) / (1 + len(distances)))
    return Fit(
        value=_value(family, figure),
        low=low,
        high=high,
        r_squared=r_squared,
        ks=ks,
        ks_p=ks_p,
        describes=describes,
        largest=math.exp(fitted[0, 0]),
        smallest=math.exp(fitted[0, -1]),
    )


def _resampled(family: str, fitted: _Floats, images: int, *, seed: int) -> tuple[_Floats, _Floats]:
    """Deal the images anew by a curve's shares, sort, fit again; return the resamples' figures and KS distances."""
    shares = np.exp(fitted - fitted.max())
    # RandomState: its stream is frozen (NEP 19), so every version of numpy gives the same interval.
    drawn = np.random.RandomState(seed).multinomial(images, shares / shares.sum(), RESAMPLES)
    drawn = np.sort(drawn, axis=1)[:, ::-1]
    drawn = drawn[(drawn > 0).sum(axis=1) >= _TO_FIT[family]]
    if not len(drawn):  # so few images that no resample can be fitted
        return np.array([np.nan]), np.array([np.inf])
    classes = (drawn > 0).sum(axis=1)
    theta = _solve(family, drawn, bins=_BINS)
    again = _logarithms(family, theta, classes, np.arange(drawn.shape[1]))
    return _figures(family, theta, classes), _distances(drawn, again)


def _ends(family: str, figure: float, figures: _Floats) -> tuple[float | None, float | None]:
    """Compute the basic interval of a value from its figure and the resamples'; None beyond the borders of alpha."""
    under, half, over = np.quantile(figures, [0.025, 0.5, 0.975]).tolist()
    if math.isnan(under):
        return None, None
    if family != "pareto":
        return _value(family, min(2 * figure - over, figure)), _value(family, max(2 * figure - under, figure))
    flattest, steepest = _FLATTEST * 1.01, _STEEPEST / 1.01
    if not (flattest < figure < steepest and flattest < half < steepest):
        return None, None
    if under < flattest:  # resamples stopped at the border: taken to spread as far to its side as to the other
        under = 2 * half - over
    low, high = min(2 * figure - over, figure), max(2 * figure - under, figure)
    return (1 / high if high < _STEEPEST else None), (1 / low if low > _FLATTEST else None)


# A figure on the scale on which resamples spread evenly: ln of the imbalance factor, 1 / alpha, the exponent.


def _figures(family: str, theta: _Floats, classes: NDArray[np.integer]) -> _Floats:
    return {"exponential": theta[:, 1] * (classes - 1), "pareto": theta[:, 2], "zipf": theta[:, 1]}[family]


def _value(family: str, figure: float) -> float:
    return math.exp(figure) if family == "exponential" else 1 / figure if family == "pareto" else figure


# Many profiles at once: counts in falling order (R, C), empty classes at the end; parameters (R, 3).


def _solve(family: str, n: NDArray[np.integer], *, bins: int | None = None) -> _Floats:
    """Fit R profiles: a, b, 0 of the lines; ln n_min, ln(n_max / n_min), 1 / alpha of Pareto, from `bins` of ranks."""
    weights = (n > 0).astype(np.float64)
    target = np.log(np.maximum(n, 1))
    r = np.arange(n.shape[1], dtype=np.float64)
    if family == "pareto":
        return _pareto(target, weights, r, bins)
    x = r if family == "exponential" else np.log(r + 1)
    middle = (weights @ x / weights.sum(axis=1))[:, None]
    centred = (x - middle) * weights
    slope = -(centred * target).sum(axis=1) / (centred * x).sum(axis=1)
    level = (target * weights).sum(axis=1) / weights.sum(axis=1) + slope * middle[:, 0]
    return np.stack([level, slope, np.zeros_like(slope)], axis=1)


def _logarithms(family: str, theta: _Floats, classes: NDArray[np.integer], r: NDArray[np.integer]) -> _Floats:
    """Compute ln of the curves at ranks r, (R, len(r))."""
    level, slope, power = (column[:, None] for column in theta.T)
    if family == "pareto":
        rise = np.expm1(slope) * _fall(np.minimum(r, classes[:, None] - 1), classes, power[:, 0])
        return np.asarray(level + np.log1p(rise))
    return np.asarray(level - slope * (r if family == "exponential" else np.log(r + 1)))


def _distances(n: NDArray[np.integer], fitted: _Floats) -> _Floats:
    shares = np.where(n > 0, np.exp(fitted - fitted.max(axis=1, keepdims=True)), 0)
    gaps = np.cumsum(n, axis=1) / n.sum(axis=1, keepdims=True)
    gaps -= np.cumsum(shares, axis=1) / shares.sum(axis=1, keepdims=True)
    return np.asarray(np.abs(gaps).max(axis=1))


def _fall(r: NDArray[np.generic], classes: NDArray[np.integer], power: _Floats) -> _Floats:
    """Compute (q_r - q_{C-1}) / (q_0 - q_{C-1}), q_r = (2 r + 1) ** -power: 1 at the first rank, 0 at the last."""
    p = np.atleast_1d(power)[:, None]
    last = np.log(2 * np.atleast_1d(classes) - 1)[:, None]
    return np.asarray(1 - np.expm1(-p * np.log1p(2 * np.asarray(r, dtype=np.float64))) / np.expm1(-p * last))


def _pareto(target: _Floats, weights: _Floats, r: _Floats, bins: int | None) -> _Floats:
    """Fit by Levenberg and Marquardt (1963), every profile with its own damping; the better of two starts.

    Over k = ln(n_max / n_min) and u = ln(1 / alpha); ln n_min is linear, and removed by centring.
    """
    last = np.log(2 * weights.sum(axis=1, keepdims=True) - 1)
    steepest = target[:, :1] - np.where(weights > 0, target, np.inf).min(axis=1, keepdims=True)
    if bins is not None and len(r) > 2 * bins:  # means over ranks: single ones at the head, wider ones in the tail
        starts = np.unique(np.append(np.arange(bins // 5), np.geomspace(bins // 5, len(r) - 1, bins).astype(int)))
        total = np.add.reduceat(weights, starts, axis=1)
        target = np.add.reduceat(weights * target, starts, axis=1) / np.maximum(total, 1)
        weights, r = total, starts + np.maximum(total - 1, 0) / 2  # empty classes come last, in a mean too
    length = np.log1p(2 * r)

    def mean(values: _Floats) -> _Floats:
        return np.asarray((weights * values).sum(axis=1, keepdims=True) / weights.sum(axis=1, keepdims=True))

    def dot(one: _Floats, other: _Floats) -> _Floats:
        return np.asarray((weights * one * other).sum(axis=1, keepdims=True))

    def state(k: _Floats, u: _Floats) -> list[_Floats]:
        """Return k, u, the sum of squares, ln n_min, the residuals, and the centred derivatives by k and by u."""
        p, rise = np.exp(u), np.expm1(k)
        down, floor = np.expm1(-p * length), np.expm1(-p * last)
        fall = np.clip(1 - down / floor, 0, 1)  # beyond the last class, where weights are 0, it would be negative
        above = 1 + rise * fall
        by_k = (rise + 1) * fall / above
        by_u = rise / above * p * (length * (down + 1) * floor - last * (floor + 1) * down) / floor**2
        offset = target - np.log(above)
        residuals = offset - mean(offset)
        return [k, u, dot(residuals, residuals), mean(offset), residuals, by_k - mean(by_k), by_u - mean(by_u)]

    ended: list[list[_Floats]] = []
    for power in _STARTS if bins is None else _STARTS[:1]:  # a resample is near the curve it is from: one is enough
        now = state(np.maximum(steepest, 1e-9), np.full_like(last, math.log(power)))
        damping = np.full_like(last, 1e-3)
        for _ in range(60):
            k, u, squares, _, residuals, by_k, by_u = now
            kk, uu, ku = (
                dot(by_k, by_k) * (1 + damping) + 1e-300,
                dot(by_u, by_u) * (1 + damping) + 1e-300,
                dot(by_k, by_u),
            )
            gk, gu = dot(by_k, residuals), dot(by_u, residuals)
            across = np.maximum(kk * uu - ku**2, 1e-300)
            step_k, step_u = (uu * gk - ku * gu) / across, (kk * gu - ku * gk) / across
            after = state(
                np.maximum(k + np.clip(step_k, -2, 2), 1e-9),
                np.clip(u + np.clip(step_u, -1, 1), math.log(_FLATTEST), math.log(_STEEPEST)),
            )
            better = after[2] <= squares
            moved = np.abs(after[0] - k) + np.abs(after[1] - u)
            now = [np.where(better, new, old) for new, old in zip(after, now, strict=True)]
            damping = np.clip(np.where(better, damping / 5, damping * 4), 1e-9, 1e9)
            if moved.max() < 1e-8:
                break
        ended.append(now)
    k, u, _, level = (np.where(ended[-1][2] < ended[0][2], ended[-1][at], ended[0][at])[:, 0] for at in range(4))
    return np.stack([level, k, np.exp(u)], axis=1)
