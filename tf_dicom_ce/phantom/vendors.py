"""Two invented manufacturers: the differences between their scanners and screens.

The text and bars around the sector say nothing about the tags.
"""

import dataclasses

import numpy as np
from PIL import Image, ImageDraw

from tf_dicom_ce.phantom.geometry import Probe

HEIGHT, WIDTH = 480, 640  # of the screen, pixels


@dataclasses.dataclass(frozen=True)
class Vendor:
    """Physics, post-processing and screen of a line of scanners.

    Decibels are relative to mean liver; positions are pixels from the left and the top.
    """

    name: str  # for Manufacturer; says that it is synthetic
    probes: dict[str, Probe]  # draw the depth of an examination around theirs
    looks: int  # independent speckle patterns averaged by compounding
    cycles: float  # length of the pulse, full width at half amplitude, periods
    f_number: float  # of the receive aperture, as long as it can grow with depth
    aperture: float  # largest, mm
    focus: float  # depth of the transmit focus as a fraction of the image's
    defocus: float  # broadening of the beam one image depth away from the focus, λF#
    side_lobes: float  # level, dB
    noise: float  # of the receiver before TGC, dB
    multipath: float  # level of the trail behind the echoes of even tissue, dB
    reverberation: float  # haze of the body wall at the face, dB
    specular: float  # amplitude of a total reflection at normal incidence, against liver speckle
    aberration: float  # standard deviation of the gain of a beam, dB
    tgc: float  # attenuation that the nominal TGC compensates, one way, dB/cm/MHz
    sliders: float  # standard deviation of the operator's change of the TGC, dB
    white: float  # level shown white, dB
    dynamic_range: float  # from black to white, dB
    contrast: float  # S shape of the gray map, from 0 straight to 1 a cubic smoothstep
    edge: float  # strength of edge enhancement, the share of detail added
    region: tuple[int, int, int, int]  # left, top, right, bottom; the last two exclusive
    bar: tuple[int, int]  # of gray
    text: tuple[int, int]
    mark: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the region, pixels."""
        left, top, right, bottom = self.region
        return bottom - top, right - left


_A_AND_B = {
    "name": ("SYNTHETIC A", "SYNTHETIC B"),
    "looks": (3, 2),
    "cycles": (2.4, 2.8),
    "f_number": (2.4, 2.8),
    "aperture": (32, 28),
    "focus": (0.55, 0.5),
    "defocus": (0.35, 0.5),
    "side_lobes": (-21, -18),
    "noise": (-74, -72),
    "multipath": (-19, -16),
    "reverberation": (-2, 2),
    "specular": (40, 34),
    "aberration": (1.0, 1.6),
    "tgc": (0.5, 0.53),
    "sliders": (1.0, 1.8),
    "white": (34, 40),
    "dynamic_range": (62, 70),
    "contrast": (0.3, 0.0),
    "edge": (0.5, 0.15),
    "region": ((24, 44, 584, 464), (88, 32, 624, 452)),
    "bar": ((606, 60), (24, 120)),
    "text": ((24, 6), (88, 458)),
    "mark": ((596, 440), (20, 12)),
}
_PROBES = (
    (
        Probe("SC6-1", frequency=3.3, depth=150, radius=60, field=66),
        Probe("SL10-2", frequency=6.5, depth=45, width=40),
        Probe("SL15-4", frequency=9.0, depth=40, width=44),
    ),
    (
        Probe("SC6-1", frequency=3.0, depth=160, radius=58, field=70),
        Probe("SL10-2", frequency=6.0, depth=45, width=38),
        Probe("SL15-4", frequency=8.5, depth=42, width=42),
    ),
)
VENDOR_A, VENDOR_B = (
    Vendor(
        probes={probe.name: probe for probe in probes},
        **{name: of_both[k] for name, of_both in _A_AND_B.items()},
    )
    for k, probes in enumerate(_PROBES)
)


def compose(vendor: Vendor, sector: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws the screen.

    Args:
        vendor: The vendor of the screen.
        sector: Picture of the region, uint8 [height, width] of `Vendor.size`.
        rng: Source of the numbers on the screen, which have no meaning.

    Returns:
        uint8 [HEIGHT, WIDTH].
    """
    screen = Image.new("L", (WIDTH, HEIGHT))
    draw = ImageDraw.Draw(screen)
    numbers = rng.integers(10, 99, 4)
    x, y = vendor.text
    draw.text((x, y), f"SYNTHETIC PHANTOM   {numbers[0]}-{numbers[1]}", fill=190)
    draw.text((x + 300, y), f"GN {numbers[2]}  FR {numbers[3]}", fill=150)
    bar = np.linspace(255, 0, 128, dtype=np.uint8)[:, None].repeat(10, axis=1)
    screen.paste(Image.fromarray(bar), vendor.bar)
    x, y = vendor.mark
    draw.rectangle((x, y, x + 22, y + 14), outline=170)
    draw.text((x + 8, y + 2), vendor.name[-1], fill=170)
    left, top, _, bottom = vendor.region
    for k in range(11):  # marks at fixed tenths: the depth would tell the probe
        y = top + (bottom - top - 1) * k // 10
        draw.line((left - 8, y, left - (3 if k % 5 else 1), y), fill=120)
    screen.paste(Image.fromarray(sector), (left, top))
    return np.asarray(screen)
