"""The closed set of reasons for which a file yields no frame."""

import dataclasses
import enum


class Code(enum.StrEnum):
    """Why a file was refused; the value is what reports show."""

    # Skipped: files that are something else or not wanted.
    NOT_REGULAR = "not-regular"  # a symbolic link, FIFO, device or socket
    NOT_DICOM = "not-dicom"  # no DICOM preamble, and no bare DICOM ultrasound data set either
    UNLISTED_PICTURE = "unlisted-picture"  # a PNG or JPEG that no labels CSV lists
    NOT_ULTRASOUND = "not-ultrasound"  # its (0008,0016) SOP Class UID is not wanted
    NOT_2D = "not-2d"  # its regions are of M-mode, spectral Doppler or traces, none of 2D tissue
    EXCLUDED = "excluded"  # it has a flag that `--exclude` names
    NO_SECTOR = "no-sector"  # `--blank-outside` is given, and nothing tells where the ultrasound is
    COPY = "copy"  # another file's image once more: same SOP Instance UID, same pixels
    UNFAMILIAR = "unfamiliar"  # it is not like the images that the head was trained on
    # Unreadable: ultrasound files, or what may be some.
    OS_ERROR = "os-error"  # the operating system refused to open or read the file
    DAMAGED_HEADER = "damaged-header"  # an element is malformed, or one on pixels is impossible
    NO_PIXELS = "no-pixels"  # the data set describes no image, or its pixel data are empty
    TRUNCATED = "truncated"  # the file ends before its pixel data do
    # No decoder reads the (0002,0010) Transfer Syntax UID, or JPEG of more bits without an extra.
    UNSUPPORTED_TRANSFER_SYNTAX = "unsupported-transfer-syntax"
    # The (0002,0010) Transfer Syntax UID says compressed and the pixels are not, or reverse.
    WRONG_TRANSFER_SYNTAX = "wrong-transfer-syntax"
    VIDEO = "video"  # the pixel data are a video stream, and the extra that reads it is missing
    # The (0028,0004) Photometric Interpretation cannot be turned into gray levels.
    UNSUPPORTED_PHOTOMETRIC = "unsupported-photometric"
    TOO_LARGE = "too-large"  # a frame, or the inflated file, is larger than any ultrasound image
    FRAME_OUT_OF_RANGE = "frame-out-of-range"  # the frame that was asked for does not exist
    DECODE_FAILED = "decode-failed"  # the decoder rejected the pixel data
    TIMED_OUT = "timed-out"  # reading took longer than a minute
    READER_DIED = "reader-died"  # its process ended: a fault in a decoder, or out of memory

    @property
    def remedy(self) -> str:
        """What the user can do about it, one sentence."""
        return _REMEDIES[self]

    @property
    def is_skip(self) -> bool:
        """True for a file that is something else or not wanted, False for an unreadable one."""
        return self in _SKIPPED

    @property
    def may_pass(self) -> bool:
        """True if the same file may be readable another time."""
        return self in _PASSING


_SKIPPED = frozenset(
    (
        *(Code.NOT_REGULAR, Code.NOT_DICOM, Code.UNLISTED_PICTURE, Code.NOT_ULTRASOUND),
        *(Code.NOT_2D, Code.EXCLUDED, Code.NO_SECTOR, Code.COPY),
        Code.UNFAMILIAR,
    )
)
# The same file may be readable once a disk has recovered or an extra is installed.
_PASSING = frozenset((Code.OS_ERROR, Code.TIMED_OUT, Code.READER_DIED, Code.VIDEO))
_REMEDIES = {
    Code.NOT_REGULAR: "Links are not followed; copy the file into the folder if it is wanted.",
    Code.NOT_DICOM: "Nothing to do, unless the file should be DICOM: then export it again.",
    Code.UNLISTED_PICTURE: "List it in a CSV given by --labels if it is an image to train on.",
    Code.NOT_ULTRASOUND: "Nothing to do; only the SOP classes of the tag schema are read.",
    Code.NOT_2D: "Nothing to do; M-mode, spectral Doppler and traces are no 2D image.",
    Code.EXCLUDED: "Nothing to do; leave out --exclude to take it.",
    Code.NO_SECTOR: "Leave out --blank-outside if no name can stand in the picture.",
    Code.COPY: "Nothing to do; the same image counts once.",
    Code.UNFAMILIAR: "Ask a head that was trained on such images.",
    Code.OS_ERROR: "Check the permissions of the file and the health of the disk.",
    Code.DAMAGED_HEADER: "Export the file again; the data set is malformed.",
    Code.NO_PIXELS: "Export the file again with its image; this copy holds none.",
    Code.TRUNCATED: "The copy is incomplete: copy or export the file again.",
    Code.UNSUPPORTED_TRANSFER_SYNTAX: "Run pip install 'tf-dicom-ce[codecs]' if it is a JPEG of 12 "
    "or 16 bits; else export it uncompressed, as Explicit VR Little Endian.",
    Code.WRONG_TRANSFER_SYNTAX: "Export it again, uncompressed: transfer syntax and pixel data do "
    "not belong together.",
    Code.VIDEO: "Run pip install 'tf-dicom-ce[codecs]', or export the clip as a multi-frame image "
    "in JPEG.",
    Code.UNSUPPORTED_PHOTOMETRIC: "Export as MONOCHROME2, RGB, YBR_FULL or PALETTE COLOR.",
    Code.TOO_LARGE: "Check the file: its size is beyond that of any ultrasound image.",
    Code.FRAME_OUT_OF_RANGE: "Ask for a frame below (0028,0008) Number of Frames.",
    Code.DECODE_FAILED: "The compressed pixels are damaged or of a rare kind: export again.",
    Code.TIMED_OUT: "Try again on an idle machine; if it stays, export the file again.",
    Code.READER_DIED: "Try again with more memory; if it stays, export the file uncompressed.",
}


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A file that yields no frame."""

    code: Code
    # The name of an exception class or of an element; never an element's value, which may tell who
    # the patient is.
    detail: str = ""
