"""Two invented manufacturers: what differs between their scanners, and what their screens show.

The furniture around the sector says nothing about the tags.
"""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw

from tf_dicom_ce.phantom.geometry import Probe, ScanConverter

HEIGHT, WIDTH = 480, 640


@dataclasses.dataclass(frozen=True)
class Vendor:
    """Physics and post-processing of a line of scanners. Decibels are against mean liver.

    Attributes:
        name: For Manufacturer; says that it is synthetic.
        probes: By (0018,5010) Transducer Data. Draw the depth of an examination around theirs.
        looks: Independent speckle patterns averaged by compounding.
        cycles: Length of the pulse, full width at half amplitude, periods.
        f_number: Of the receive aperture, as long as it can grow with depth.
        aperture: Largest aperture, mm.
        focus: Depth of the transmit focus as a fraction of the image's.
        defocus: Broadening of the beam one image depth away from the focus, λF#.
        side_lobes: Level of the side lobes, dB.
        noise: Of the receiver before TGC, dB.
        multipath: What trails behind the echoes of even tissue, dB.
        reverberation: Haze of the body wall at the face, dB.
        specular: Amplitude of a total reflection at normal incidence, against liver speckle.
        aberration: Standard deviation of the gain of a beam, dB.
        tgc: Attenuation that the nominal TGC undoes, one way, dB/cm/MHz.
        sliders: Standard deviation of what the operator adds to the TGC, dB.
        white: Level shown white, dB.
        dynamic_range: From black to white, dB.
        contrast: S shape of the gray map, from 0 straight to 1 a cubic smoothstep.
        edge: Strength of edge enhancement, the share of detail added.
    """

    name: str
    probes: Mapping[str, Probe] = dataclasses.field(hash=False)
    looks: int
    cycles: float
    f_number: float
    aperture: float
    focus: float
    defocus: float
    side_lobes: float
    noise: float
    multipath: float
    reverberation: float
    specular: float
    aberration: float
    tgc: float
    sliders: float
    white: float
    dynamic_range: float
    contrast: float
    edge: float


def _by_name(*probes: Probe) -> dict[str, Probe]:
    return {probe.name: probe for probe in probes}


VENDOR_A = Vendor(
    name="SYNTHETIC A",
    probes=_by_name(
        Probe("SC6-1", frequency=3.3, depth=150, radius=60, field=66),
        Probe("SL10-2", frequency=6.5, depth=45, width=40),
        Probe("SL15-4", frequency=9.0, depth=40, width=44),
    ),
    looks=3,
    cycles=2.4,
    f_number=2.4,
    aperture=32,
    focus=0.55,
    defocus=0.35,
    side_lobes=-21,
    noise=-74,
    multipath=-19,
    reverberation=-2,
    specular=40,
    aberration=1.0,
    tgc=0.5,
    sliders=1.0,
    white=34,
    dynamic_range=62,
    contrast=0.3,
    edge=0.5,
)

VENDOR_B = Vendor(
    name="SYNTHETIC B",
    probes=_by_name(
        Probe("SC6-1", frequency=3.0, depth=160, radius=58, field=70),
        Probe("SL10-2", frequency=6.0, depth=45, width=38),
        Probe("SL15-4", frequency=8.5, depth=42, width=42),
    ),
    looks=2,
    cycles=2.8,
    f_number=2.8,
    aperture=28,
    focus=0.5,
    defocus=0.5,
    side_lobes=-18,
    noise=-72,
    multipath=-16,
    reverberation=2,
    specular=34,
    aberration=1.6,
    tgc=0.53,
    sliders=1.8,
    white=40,
    dynamic_range=70,
    contrast=0.0,
    edge=0.15,
)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where a vendor puts things, in pixels.

    Attributes:
        region: Left, top, right, bottom of the ultrasound region, the last two exclusive.
        bar: Left, top of the gray bar.
        text: Left, top of the lines of text.
        mark: Left, top of the mark.
    """

    region: tuple[int, int, int, int]
    bar: tuple[int, int]
    text: tuple[int, int]
    mark: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the region."""
        left, top, right, bottom = self.region
        return bottom - top, right - left


LAYOUTS = {
    "SYNTHETIC A": Layout((24, 44, 584, 464), (606, 60), (24, 6), (596, 440)),
    "SYNTHETIC B": Layout((88, 32, 624, 452), (24, 120), (88, 458), (20, 12)),
}


@functools.lru_cache(maxsize=32)
def converter(vendor: str, probe: Probe) -> ScanConverter:
    """The scan converter that fills the vendor's region."""
    return ScanConverter(probe, *LAYOUTS[vendor].size)


def compose(vendor: str, sector: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws the screen.

    Args:
        vendor: Name of the vendor.
        sector: Picture of the region, uint8 [height, width] of `Layout.size`.
        rng: Source of the numbers on the screen; they mean nothing.

    Returns:
        uint8 [HEIGHT, WIDTH].
    """
    layout = LAYOUTS[vendor]
    screen = Image.new("L", (WIDTH, HEIGHT))
    draw = ImageDraw.Draw(screen)
    numbers = rng.integers(10, 99, 4)
    draw.text(layout.text, f"SYNTHETIC PHANTOM   {numbers[0]}-{numbers[1]}", fill=190)
    x, y = layout.text
    draw.text((x + 300, y), f"GN {numbers[2]}  FR {numbers[3]}", fill=150)
    bar = np.linspace(255, 0, 128, dtype=np.uint8)[:, None].repeat(10, axis=1)
    screen.paste(Image.fromarray(bar), layout.bar)
    x, y = layout.mark
    draw.rectangle((x, y, x + 22, y + 14), outline=170)
    draw.text((x + 8, y + 2), vendor[-1], fill=170)
    left, top, _, bottom = layout.region
    for k in range(11):  # marks at fixed tenths: the depth would tell the probe
        y = top + (bottom - top - 1) * k // 10
        draw.line((left - 8, y, left - (3 if k % 5 else 1), y), fill=120)
    screen.paste(Image.fromarray(sector), (left, top))
    return np.asarray(screen)
