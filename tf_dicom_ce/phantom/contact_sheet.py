"""One picture of a cohort: an image of every scene, and liver and kidney outlined."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from tf_dicom_ce.dicom.reader import read_frame
from tf_dicom_ce.masks import colour

_TILE = 320, 240
_TITLE = 16
_COLUMNS = 5
_ORGANS = (1, 2)  # liver, kidney


def contact_sheet(cohort: Path, rows: list[dict]) -> Image.Image:
    """The first pretraining image of every scene, and two images of each downstream stage.

    Downstream images have their class, or the outlines of their masks. `rows` are the rows of the
    cohort's truth table. The result is RGB.
    """
    chosen = {}
    for row in rows:
        stage = row["path"].split("/")[0]
        key = (stage, row["scene"]) if stage == "pretraining" else (stage, row["patient"])
        if stage == "pretraining" or sum(k[0] == stage for k in chosen) < 2:
            chosen.setdefault(key, row)
    tiles = [_tile(cohort, row) for row in chosen.values()]
    width, height = _TILE[0], _TILE[1] + _TITLE
    lines = -(-len(tiles) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * width, lines * height))
    for k, tile in enumerate(tiles):
        sheet.paste(tile, (k % _COLUMNS * width, k // _COLUMNS * height))
    return sheet


def _tile(cohort: Path, row: dict) -> Image.Image:
    frame = read_frame(cohort / row["path"])
    picture = np.repeat(frame.pixels[..., np.newaxis], 3, axis=-1)
    title = f"{row['scene']}, {row['probe']}"
    if row.get("mask"):
        mask = np.asarray(Image.open(cohort / row["mask"]))[frame.region.slices]
        for label in _ORGANS:
            organ = mask == label
            picture[organ & ~ndimage.binary_erosion(organ, iterations=2)] = colour(label)
        title = "segmentation"
    elif "score" in row:
        title = f"classification: quality {row['label']}"
    tile = Image.new("RGB", (_TILE[0], _TILE[1] + _TITLE))
    ImageDraw.Draw(tile).text((4, 2), title, fill=(220, 220, 220))
    image = Image.fromarray(picture)
    image.thumbnail(_TILE)
    tile.paste(image, ((_TILE[0] - image.width) // 2, _TITLE))
    return tile
