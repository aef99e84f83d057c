"""The closed set of reasons for which a file yields no frame."""

import dataclasses
import enum


class Code(enum.StrEnum):
    """Why a file was refused; the value is what reports show.

    Members marked "skipped" are files that are something else or not wanted. All others are
    ultrasound files (or may be) that cannot be read.
    """

    remedy: str  # what the user can do about it, one sentence

    def __new__(cls, value: str, remedy: str) -> "Code":
        """A code of two texts."""
        self = str.__new__(cls, value)
        self._value_, self.remedy = value, remedy
        return self

    NOT_REGULAR = (
        "not-regular",
        "Links are not followed; copy the file into the folder if it is wanted.",
    )
    """Skipped: a symbolic link, FIFO, device or socket."""
    NOT_DICOM = "not-dicom", "Nothing to do, unless the file should be DICOM: then export it again."
    """Skipped: no DICOM preamble, and no bare DICOM ultrasound data set either."""
    UNLISTED_PICTURE = (
        "unlisted-picture",
        "List it in a CSV given by --labels if it is an image to train on.",
    )
    """Skipped: a PNG or JPEG that no labels CSV lists."""
    NOT_ULTRASOUND = (
        "not-ultrasound",
        "Nothing to do; only the SOP classes of the tag schema are read.",
    )
    """Skipped: DICOM whose (0008,0016) SOP Class UID is not wanted; by default, not ultrasound."""
    NOT_2D = "not-2d", "Nothing to do; M-mode, spectral Doppler and traces are no 2D image."
    """Skipped: its regions are of M-mode, spectral Doppler or traces, and none of 2D tissue."""
    EXCLUDED = "excluded", "Nothing to do; leave out --exclude to take it."
    NO_SECTOR = "no-sector", "Leave out --blank-outside if no name can stand in the picture."
    """Skipped: `--blank-outside` is given, and nothing tells where the ultrasound is."""
    COPY = "copy", "Nothing to do; the same image counts once."
    """Skipped: the image of another file once more: same SOP Instance UID, same pixels."""
    OS_ERROR = "os-error", "Check the permissions of the file and the health of the disk."
    DAMAGED_HEADER = "damaged-header", "Export the file again; the data set is malformed."
    """An element is malformed, or one that describes the pixels is absent or impossible."""
    NO_PIXELS = "no-pixels", "Export the file again with its image; this copy holds none."
    """The data set describes no image, or its pixel data are empty."""
    TRUNCATED = "truncated", "The copy is incomplete: copy or export the file again."
    """The file ends before its pixel data do."""
    UNSUPPORTED_TRANSFER_SYNTAX = (
        "unsupported-transfer-syntax",
        "Export it uncompressed, as Explicit VR Little Endian (dcmdjpeg does so with JPEG).",
    )
    """No decoder reads the (0002,0010) Transfer Syntax UID, or JPEG of more than 8 bits."""
    WRONG_TRANSFER_SYNTAX = (
        "wrong-transfer-syntax",
        "Export it again, uncompressed: transfer syntax and pixel data do not belong together.",
    )
    """The (0002,0010) Transfer Syntax UID says compressed and the pixels are not, or reverse."""
    VIDEO = "video", "Export still images, or the clip as a multi-frame image in JPEG."
    """The pixel data are a video stream: MPEG-2, H.264, H.265."""
    UNSUPPORTED_PHOTOMETRIC = (
        "unsupported-photometric",
        "Export as MONOCHROME2, RGB, YBR_FULL or PALETTE COLOR.",
    )
    """The (0028,0004) Photometric Interpretation cannot be turned into gray levels."""
    TOO_LARGE = "too-large", "Check the file: its size is beyond that of any ultrasound image."
    """One frame, or the inflated file, is larger than any ultrasound image."""
    FRAME_OUT_OF_RANGE = "frame-out-of-range", "Ask for a frame below (0028,0008) Number of Frames."
    DECODE_FAILED = (
        "decode-failed",
        "The compressed pixels are damaged or of a rare kind: export again.",
    )
    TIMED_OUT = "timed-out", "Try again on an idle machine; if it stays, export the file again."
    """Reading took longer than a minute."""
    READER_DIED = (
        "reader-died",
        "Try again with more memory; if it stays, export the file uncompressed.",
    )
    """The process that read the file ended: a fault in a decoder, or out of memory."""

    @property
    def is_skip(self) -> bool:
        """True for a file that is something else or not wanted, False for an unreadable one."""
        return self in _SKIPPED

    @property
    def may_pass(self) -> bool:
        """True if the same file may be readable another time."""
        return self in (Code.OS_ERROR, Code.TIMED_OUT, Code.READER_DIED)


_SKIPPED = frozenset(
    (
        *(Code.NOT_REGULAR, Code.NOT_DICOM, Code.UNLISTED_PICTURE, Code.NOT_ULTRASOUND),
        *(Code.NOT_2D, Code.EXCLUDED, Code.NO_SECTOR, Code.COPY),
    )
)


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A file that yields no frame."""

    code: Code  # the reason
    # The name of an exception class or of an element; never the value of an element, because values
    # identify patients.
    detail: str = ""
