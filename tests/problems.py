"""Cases with known answers, and the published algorithm written down a second time, plainly, in NumPy and SciPy.

Nothing here imports `reds_core`: what it checks must not lean on it.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg


def published_rank(values: np.ndarray, beta: float) -> int:
    """The article's rank by explained variance; eigenvalues in descending order."""
    share = values**2 / np.sum(values**2)
    return int(min(len(values), np.sum(np.cumsum(share) <= beta) + 1))


def _descending(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eigh(a)
    return values[::-1], vectors[:, ::-1]


def published_gram(j: np.ndarray) -> np.ndarray:
    a = j.T.astype(np.float64) @ j
    return a / np.linalg.norm(a)


def published_null_space(held: list[np.ndarray], beta: float) -> np.ndarray:
    tops = []
    for j in held:
        values, vectors = _descending(published_gram(j))
        tops.append(vectors[:, : published_rank(values, beta)])
    return scipy.linalg.null_space(scipy.linalg.orth(np.hstack(tops)).T)


def published_reds(held: list[np.ndarray], varied: list[np.ndarray], beta_held: float, beta_varied: float) -> np.ndarray:
    """Section 3 of the article (several varied attributes: the sum of their normalised Grams)."""
    null = published_null_space(held, beta_held)
    values, vectors = _descending(null.T @ sum(published_gram(j) for j in varied) @ null)
    return null @ vectors[:, : published_rank(values, beta_varied)]


def published_differences(f, z: np.ndarray, h: float, two_sided: bool) -> np.ndarray:
    """The article's Jacobian (p, d): one axis after the other."""
    columns = []
    for e in np.eye(len(z)):
        columns.append((f(z + h * e) - f(z - h * e)) / (2 * h) if two_sided else (f(z + h * e) - f(z)) / h)
    return np.stack(columns, 1)


def published_local(f_held, f_varied, z: np.ndarray, direction: int, sign: int, h: float, waypoints: int, betas) -> np.ndarray:
    """One local trajectory, (waypoints, d), with published Jacobians; `f_*` are lists of functions of one latent."""
    points: list[np.ndarray] = []
    v = np.zeros_like(z)
    for j in range(waypoints):
        jacobians = [[published_differences(f, z, h, j == 0) for f in fs] for fs in (f_held, f_varied)]
        span = published_reds(*jacobians, *betas)
        if j == 0:
            v = span[:, direction]
            v = sign * v * np.sign(v[np.abs(v).argmax()])
        else:
            v = span @ (span.T @ v)
            v = v / np.linalg.norm(v)
        z = z + h * v
        points.append(z)
    return np.stack(points)


def subspace_angle(a: np.ndarray, b: np.ndarray) -> float:
    """The largest principal angle between two spans of equal size, in radians."""
    return float(scipy.linalg.subspace_angles(a, b).max())
