"""Cases with known answers, and the published algorithm a second time, written plainly in NumPy and SciPy.

Nothing here imports `reds_core`, since it checks it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import scipy.linalg

FeatureOf = Callable[[np.ndarray], np.ndarray]  # one latent (d,) -> features (p,)


def published_rank(values: np.ndarray, beta: float) -> int:
    """Returns the article's rank by explained variance, for eigenvalues in descending order."""
    share = values**2 / np.sum(values**2)
    return min(len(values), int(np.sum(np.cumsum(share) <= beta)) + 1)


def _descending(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eigh(a)
    return values[::-1], vectors[:, ::-1]


def published_gram(j: np.ndarray) -> np.ndarray:
    a: np.ndarray = j.T.astype(np.float64) @ j
    return np.asarray(a / np.linalg.norm(a))


def published_null_space(held: list[np.ndarray], beta: float) -> np.ndarray:
    tops = []
    for j in held:
        values, vectors = _descending(published_gram(j))
        tops.append(vectors[:, : published_rank(values, beta)])
    return np.asarray(scipy.linalg.null_space(scipy.linalg.orth(np.hstack(tops)).T))


def published_reds(held: list[np.ndarray], varied: list[np.ndarray], beta_held: float, beta_varied: float) -> np.ndarray:
    """Returns the directions of section 3 of the article, with several varied attributes as the sum of their normalised Grams."""
    null = published_null_space(held, beta_held)
    values, vectors = _descending(null.T @ sum(published_gram(j) for j in varied) @ null)
    return np.asarray(null @ vectors[:, : published_rank(values, beta_varied)])


def published_differences(f: FeatureOf, z: np.ndarray, h: float, two_sided: bool) -> np.ndarray:
    """Returns the article's Jacobian (p, d), one axis after another."""
    columns = []
    for e in np.eye(len(z)):
        columns.append((f(z + h * e) - f(z - h * e)) / (2 * h) if two_sided else (f(z + h * e) - f(z)) / h)
    return np.stack(columns, 1)


def published_local(
    f_held: Sequence[FeatureOf],
    f_varied: Sequence[FeatureOf],
    z: np.ndarray,
    direction: int,
    sign: int,
    h: float,
    waypoints: int,
    betas: tuple[float, float],
) -> np.ndarray:
    """Returns one local trajectory, (waypoints, d), with published Jacobians; `f_*` are lists of functions of one latent."""
    points: list[np.ndarray] = []
    v = np.zeros_like(z)
    for j in range(waypoints):
        held, varied = ([published_differences(f, z, h, j == 0) for f in fs] for fs in (f_held, f_varied))
        span = published_reds(held, varied, *betas)
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
    """Returns the largest principal angle between two spans of equal size, in radians."""
    return float(scipy.linalg.subspace_angles(a, b).max())


class LevelSet:
    """Held features of points y (n, k) with a level set that is known in closed form: f(y) = 0 on it.

    The last attributes may be decisions, one number each: f(y) / tolerance is 1 at the limit, and at most 0 well inside.
    """

    decisions = 0

    def __init__(self, k: int, tolerances: list[float]) -> None:
        self.k, self.tolerances = k, tolerances

    def features(self, y: np.ndarray) -> list[np.ndarray]:
        """Returns an array (n, p) for every attribute."""
        raise NotImplementedError


class Sphere(LevelSet):
    """|c + y| = |c|, in k dimensions."""

    def __init__(self, k: int = 3, radius: float = 1.0, tolerance: float = 0.01) -> None:
        super().__init__(k, [tolerance])
        self.centre = radius * np.eye(k)[0]
        self.radius = radius

    def features(self, y: np.ndarray) -> list[np.ndarray]:
        return [np.linalg.norm(self.centre + y, axis=1, keepdims=True) - self.radius]


class Torus(LevelSet):
    """A tube of radius 0.5 around a circle of radius 2; y = 0 lies on its outer equator."""

    def __init__(self, tolerance: float = 0.01) -> None:
        super().__init__(3, [tolerance])

    def features(self, y: np.ndarray) -> list[np.ndarray]:
        p = y + np.array([2.5, 0, 0])
        ring = np.linalg.norm(p[:, :2], axis=1) - 2
        return [(np.sqrt(ring**2 + p[:, 2] ** 2) - 0.5)[:, None]]


class Product(LevelSet):
    """Two attributes at once, in units a million times apart: a sphere in the first three coordinates, one in the last three."""

    def __init__(self, tolerance: float = 0.01) -> None:
        super().__init__(6, [tolerance, 1e6 * tolerance])

    def features(self, y: np.ndarray) -> list[np.ndarray]:
        pole = np.array([1.0, 0, 0])
        return [
            np.linalg.norm(pole + y[:, :3], axis=1, keepdims=True) - 1,
            1e6 * (np.linalg.norm(pole + y[:, 3:], axis=1, keepdims=True) - 1),
        ]


class HalfSpaces(LevelSet):
    """a y <= c for some normals a and limits c; from `room` inside a limit on, nothing is asked."""

    def __init__(self, normals: list[list[float]], limits: list[float], room: float = 0.1) -> None:
        super().__init__(len(normals[0]), [1.0] * len(normals))
        self.normals, self.limits, self.room = np.array(normals), np.array(limits), room
        self.decisions = len(normals)

    def features(self, y: np.ndarray) -> list[np.ndarray]:
        return [1 + (y @ a - c)[:, None] / self.room for a, c in zip(self.normals, self.limits, strict=True)]


class Ball(LevelSet):
    """|y - centre| <= radius, or >= radius outside of it."""

    decisions = 1

    def __init__(self, centre: list[float], radius: float, outside: bool = False, room: float = 0.1) -> None:
        super().__init__(len(centre), [1.0])
        self.centre, self.radius, self.outside, self.room = np.array(centre), radius, outside, room

    def features(self, y: np.ndarray) -> list[np.ndarray]:
        beyond = np.linalg.norm(y - self.centre, axis=1, keepdims=True) - self.radius
        return [1 + (-beyond if self.outside else beyond) / self.room]


class Cap(LevelSet):
    """A level and a decision: the sphere |c + y| = |c|, up to y_2 = limit."""

    decisions = 1

    def __init__(self, limit: float = 0.4, tolerance: float = 0.01, room: float = 0.1) -> None:
        super().__init__(4, [tolerance, 1.0])
        self.limit, self.room = limit, room

    def features(self, y: np.ndarray) -> list[np.ndarray]:
        return [np.linalg.norm(np.eye(4)[0] + y, axis=1, keepdims=True) - 1, 1 + (y[:, 2:3] - self.limit) / self.room]
