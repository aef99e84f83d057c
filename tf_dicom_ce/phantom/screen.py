"""A vendor's screen: the sector, and furniture around it that says nothing about the tags."""

import dataclasses
import functools

import numpy as np
from PIL import Image, ImageDraw

from tf_dicom_ce.phantom.geometry import Probe, ScanConverter

HEIGHT, WIDTH = 480, 640


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
