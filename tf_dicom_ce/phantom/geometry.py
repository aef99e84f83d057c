"""The geometry of a probe: its polar grid, the plane in the body, and scan conversion."""

import dataclasses
import functools

import numpy as np


@dataclasses.dataclass(frozen=True)
class Probe:
    """A transducer and the grid on which it samples: `samples` along each of `beams`.

    A linear probe has a width, a curvilinear one a radius and a field.
    """

    name: str  # as in (0018,5010) Transducer Data
    frequency: float  # MHz
    depth: float  # range of the image, mm
    width: float = 0.0  # of the face, mm
    radius: float = 0.0  # of the face, mm
    field: float = 0.0  # angle of the sector, degrees
    beams: int = 192
    samples: int = 320

    @property
    def ranges(self) -> np.ndarray:
        """Distance of every sample from the face, mm, float32 [samples]."""
        return ((np.arange(self.samples) + 0.5) * self.depth / self.samples).astype(np.float32)

    @property
    def face(self) -> np.ndarray:
        """Position of every beam along the face, from its middle, mm, float32 [beams]."""
        width = self.width or self.radius * np.deg2rad(self.field)
        return (self._across * width).astype(np.float32)

    @property
    def _across(self) -> np.ndarray:
        """Position of every beam as a share of the width, -0.5 to 0.5: float64 [beams]."""
        return (np.arange(self.beams) + 0.5) / self.beams - 0.5

    def beam_spacing(self) -> np.ndarray:
        """Distance of neighbouring beams at every sample, mm, float32 [samples]."""
        if self.radius:
            step = np.deg2rad(self.field) / self.beams
            return ((self.radius + self.ranges) * step).astype(np.float32)
        return np.full(self.samples, self.width / self.beams, np.float32)

    def points(self) -> np.ndarray:
        """In-plane position of every sample, mm, float32 [samples, beams, 2] as (x, z).

        x runs across, z away from the middle of the face, where x = z = 0.
        """
        if self.radius:
            angle = np.deg2rad(self.field) * self._across
            distance = self.radius + self.ranges[:, None]
            x, z = distance * np.sin(angle), distance * np.cos(angle) - self.radius
        else:
            x = np.broadcast_to(self.width * self._across, (self.samples, self.beams))
            z = np.broadcast_to(self.ranges[:, None], x.shape)
        return np.stack([x, z], axis=-1).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Pose:
    """The image plane in the body: point = origin + x · across + z · along, in mm."""

    origin: np.ndarray  # middle of the probe's face, float [3]
    across: np.ndarray  # unit vector of x, float [3]
    along: np.ndarray  # unit vector of z, float [3]

    def to_body(self, points: np.ndarray) -> np.ndarray:
        """In-plane points (x, z) [..., 2] to body coordinates [..., 3], mm."""
        x, z = points[..., :1], points[..., 1:]
        return (self.origin + x * self.across + z * self.along).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class ScanConverter:
    """Converts the polar grid to a picture of `height` × `width` pixels, filled by the sector."""

    probe: Probe
    height: int
    width: int

    @functools.cached_property
    def spacing(self) -> float:
        """Size of a (square) pixel, mm."""
        probe = self.probe
        half = np.deg2rad(probe.field) / 2
        across = 2 * (probe.radius + probe.depth) * np.sin(half) + probe.width
        return float(max(across / self.width, (probe.depth - self.top) / self.height))

    @property
    def top(self) -> float:
        """Upper edge of the picture, z in mm, at the ends of the face."""
        half = np.deg2rad(self.probe.field) / 2
        return float(self.probe.radius * (np.cos(half) - 1))

    @functools.cached_property
    def _coordinates(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Fractional sample and beam of every pixel, and whether it lies in the sector."""
        probe = self.probe
        x = ((np.arange(self.width) + 0.5) - self.width / 2) * self.spacing
        z = self.top + (np.arange(self.height)[:, None] + 0.5) * self.spacing
        if probe.radius:
            distance = np.hypot(x, z + probe.radius) - probe.radius
            across = np.rad2deg(np.arctan2(x, z + probe.radius)) / probe.field
        else:
            distance, across = np.broadcast_to(z, (self.height, self.width)), x / probe.width
            across = np.broadcast_to(across, distance.shape)
        sample = distance / probe.depth * probe.samples - 0.5
        beam = (across + 0.5) * probe.beams - 0.5
        inside = (np.abs(across) <= 0.5) & (distance >= 0) & (distance <= probe.depth)
        return sample.astype(np.float32), beam.astype(np.float32), inside

    @functools.cached_property
    def _corners(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For every pixel in the sector, the polar element above and before it, and the offset."""
        sample, beam, inside = self._coordinates
        sample = np.clip(sample[inside], 0, self.probe.samples - 1.001)
        beam = np.clip(beam[inside], 0, self.probe.beams - 1.001)
        i, j = sample.astype(np.int32), beam.astype(np.int32)
        return i * self.probe.beams + j, sample - i, beam - j

    @property
    def sector(self) -> np.ndarray:
        """Pixels that the probe sees, bool [height, width]."""
        return self._coordinates[2]

    def image(self, polar: np.ndarray) -> np.ndarray:
        """Bilinear interpolation of float [samples, beams]; 0 outside; float32 [height, width]."""
        corner, u, v = self._corners
        upper, lower = (
            polar.take(first) * (1 - v) + polar.take(first + 1) * v
            for first in (corner, corner + self.probe.beams)
        )
        picture = np.zeros((self.height, self.width), np.float32)
        picture[self.sector] = upper * (1 - u) + lower * u
        return picture

    def labels(self, polar: np.ndarray) -> np.ndarray:
        """Nearest neighbour of integer [samples, beams]; 0 outside; same dtype."""
        sample, beam, inside = self._coordinates
        i = np.clip(np.rint(sample), 0, self.probe.samples - 1).astype(np.int32)
        j = np.clip(np.rint(beam), 0, self.probe.beams - 1).astype(np.int32)
        return np.where(inside, polar[i, j], 0).astype(polar.dtype)
