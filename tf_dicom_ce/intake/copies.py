"""Which files hold an image that another file holds already."""

import collections
from collections.abc import Mapping

from tf_dicom_ce.intake.contents import digests, pixel_digests
from tf_dicom_ce.intake.decoding import ImageReader
from tf_dicom_ce.intake.examination import Facts


def find_copies(
    reader: ImageReader, images: Mapping[str, Facts], progress: bool = True
) -> dict[str, str]:
    """Finds files of one (0008,0018) SOP Instance UID and the same pixels, and equal pictures.

    Pixels are decoded only where a UID stands in several files whose bytes differ, as they do where
    one was compressed or its header was edited.

    Args:
        reader: How files become frames.
        images: Path to what was found of the file; of equal images the first counts.
        progress: Shows a bar on standard error.

    Returns:
        Path of each copy to the path of the image that counts.
    """
    instances = collections.defaultdict(list)
    for path, facts in images.items():
        if facts.is_picture or facts.identity.instance:
            instances[facts.identity.instance].append(path)
    pictures = instances.pop("", [])
    shared = [path for paths in instances.values() if len(paths) > 1 for path in paths]
    contents = digests(reader.root, [*pictures, *shared], progress)
    unlike = {
        path: images[path].frames
        for paths in instances.values()
        if len({contents.get(path) for path in paths}) > 1
        for path in paths
    }
    contents |= {p: f"pixels {d}" for p, d in pixel_digests(reader, unlike).items() if d}
    firsts: dict[tuple[str, str], str] = {}
    copies = {}
    for path in images:
        if content := contents.get(path):
            first = firsts.setdefault((images[path].identity.instance, content), path)
            if first != path:
                copies[path] = first
    return copies
