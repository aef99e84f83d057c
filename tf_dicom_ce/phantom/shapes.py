"""Implicit surfaces and smooth noise, evaluated on points float32 [..., 3] in mm."""

import dataclasses

import numpy as np

Point = tuple[float, float, float]  # (x, y, z), mm


def length(points: np.ndarray) -> np.ndarray:
    """Distance from the origin, float32 [...]; faster than NumPy's sum over an axis of 3."""
    x, y, z = np.square(points[..., 0]), np.square(points[..., 1]), np.square(points[..., 2])
    return np.sqrt(x + y + z)


@dataclasses.dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid, turned in the image plane."""

    centre: Point
    radii: Point  # half axes
    turn: float = 0.0  # from x towards z, radians

    def local(self, points: np.ndarray) -> np.ndarray:
        """Points in units of the half axes, float32 [..., 3]: the surface is the unit sphere."""
        p = points - np.asarray(self.centre, np.float32)
        cos, sin = np.float32(np.cos(self.turn)), np.float32(np.sin(self.turn))
        x, y, z = p[..., 0], p[..., 1], p[..., 2]
        turned = np.stack([cos * x + sin * z, y, cos * z - sin * x], axis=-1)
        return turned / np.asarray(self.radii, np.float32)

    def level(self, points: np.ndarray) -> np.ndarray:
        """Distance from the centre in units of the surface, float32 [...]: below 1 is inside."""
        return length(self.local(points))


@dataclasses.dataclass(frozen=True)
class Capsule:
    """A tube with round ends."""

    start: Point
    end: Point
    radius: float  # mm

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Signed distance to the surface, mm, float32 [...]: negative is inside."""
        start, end = np.asarray(self.start, np.float32), np.asarray(self.end, np.float32)
        axis, p = end - start, points - start
        t = np.clip((p @ axis) / np.float32(axis @ axis), 0, 1)
        return length(p - t[..., None] * axis) - np.float32(self.radius)


class Noise:
    """Smooth noise in space, a sum of sinusoids: the same field in every plane of a patient.

    Args:
        rng: Source of the directions and phases.
        scale: Wavelength, mm; drawn within ±40 % of it.
        terms: Number of sinusoids; the standard deviation is 1.
    """

    def __init__(self, rng: np.random.Generator, scale: float, terms: int = 6):
        directions = rng.normal(size=(3, terms))
        directions /= np.linalg.norm(directions, axis=0)
        wavelengths = scale * rng.uniform(0.6, 1.4, terms)
        self._frequencies = (2 * np.pi * directions / wavelengths).astype(np.float32)
        self._phases = rng.uniform(0, 2 * np.pi, terms).astype(np.float32)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """The field at `points`, float32 [...]."""
        # Summed term by term: the last bit of a matrix product may depend on the thread count.
        total = np.zeros(points.shape[:-1], np.float32)
        for (fx, fy, fz), phase in zip(self._frequencies.T, self._phases, strict=True):
            total += np.sin(fx * points[..., 0] + fy * points[..., 1] + fz * points[..., 2] + phase)
        return total * np.float32(np.sqrt(2 / len(self._phases)))


def vessel_tree(
    rng: np.random.Generator,
    root: Point,
    direction: Point,
    radius: float,
    length: float = 30.0,
    generations: int = 3,
) -> list[Capsule]:
    """A tree of 2^generations − 1 capsules: each branch splits in two, thinner and shorter.

    The first branch starts at `root` with `radius` and about `length`, mm.
    """
    direction = np.asarray(direction, float) / np.linalg.norm(direction)
    end = np.asarray(root, float) + direction * length * rng.uniform(0.8, 1.2)
    branches = [Capsule(tuple(root), tuple(end), radius)]
    if generations > 1:
        side = np.cross(direction, rng.normal(size=3))
        side /= np.linalg.norm(side)
        for sign in (-1, 1):
            angle = sign * rng.uniform(0.35, 0.75)
            turned = np.cos(angle) * direction + np.sin(angle) * side
            branches += vessel_tree(
                rng, tuple(end), tuple(turned), radius * 0.7, length * 0.8, generations - 1
            )
    return branches
