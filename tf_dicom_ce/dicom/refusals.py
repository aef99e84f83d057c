"""All reasons why a file yields no frame, or why its study has no report."""

import dataclasses
import enum


class Code(enum.StrEnum):
    """The reason for a refusal; reports show the value."""

    # Skipped: files that are something else, or not wanted.
    NOT_REGULAR = "not-regular"  # a symbolic link, FIFO, device or socket
    NOT_DICOM = "not-dicom"  # no DICOM preamble, and no bare ultrasound data set
    UNLISTED_PICTURE = "unlisted-picture"  # a PNG or JPEG that no labels CSV lists
    NOT_ULTRASOUND = "not-ultrasound"  # its (0008,0016) SOP Class UID is not wanted
    NOT_2D = "not-2d"  # its regions show M-mode, spectral Doppler or traces, but no 2D tissue
    EXCLUDED = "excluded"  # it has a flag that `--exclude` names
    NO_SECTOR = "no-sector"  # with `--blank-outside`: the ultrasound was not found
    COPY = "copy"  # the same image as another file: same SOP Instance UID, same pixels
    UNFAMILIAR = "unfamiliar"  # it is not like the images that the head was trained on
    # Its study has no report: its patient contradicts that of another file, or its SOP Instance UID
    # is that of another file.
    CONTRADICTION = "contradiction"
    # Unreadable: files that are, or may be, ultrasound.
    OS_ERROR = "os-error"  # the operating system refused to open or read the file
    CHANGED = "changed"  # the file changed while it was read
    DAMAGED_HEADER = "damaged-header"  # an element is malformed, or its value impossible
    NO_PIXELS = "no-pixels"  # the data set describes no image, or its pixel data are empty
    TRUNCATED = "truncated"  # the file ends before its pixel data do
    # No decoder reads the (0002,0010) Transfer Syntax UID, or the extra for more bits is missing.
    UNSUPPORTED_TRANSFER_SYNTAX = "unsupported-transfer-syntax"
    # The (0002,0010) Transfer Syntax UID says compressed, but the pixels are not, or vice versa.
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
        """One sentence: what the user can do."""
        return _REMEDIES[self]

    @property
    def is_skip(self) -> bool:
        """True for a skipped file, False for an unreadable one."""
        return self in _SKIPPED

    @property
    def may_pass(self) -> bool:
        """True if the same file may be readable at another time."""
        return self in _PASSING


_SKIPPED = frozenset(
    (
        *(Code.NOT_REGULAR, Code.NOT_DICOM, Code.UNLISTED_PICTURE, Code.NOT_ULTRASOUND),
        *(Code.NOT_2D, Code.EXCLUDED, Code.NO_SECTOR, Code.COPY),
        *(Code.UNFAMILIAR, Code.CONTRADICTION),
    )
)
# The same file may be readable once a disk has recovered or an extra is installed.
_PASSING = frozenset(
    (
        *(Code.OS_ERROR, Code.CHANGED, Code.TIMED_OUT, Code.READER_DIED),
        *(Code.VIDEO, Code.UNSUPPORTED_TRANSFER_SYNTAX),
    )
)
_REMEDIES = {
    Code.NOT_REGULAR: "Links are not followed; if you want the file, copy it into the folder.",
    Code.NOT_DICOM: "Nothing to do. If the file should be DICOM, export it again.",
    Code.UNLISTED_PICTURE: "To train on it, list it in a labels CSV (--labels).",
    Code.NOT_ULTRASOUND: "Nothing to do; only the SOP classes of the tag schema are read.",
    Code.NOT_2D: "Nothing to do; M-mode, spectral Doppler and traces are not 2D images.",
    Code.EXCLUDED: "Nothing to do; to use it, remove its flag from --exclude.",
    Code.NO_SECTOR: "Leave out --blank-outside if no picture shows a name.",
    Code.COPY: "Nothing to do; the same image counts once.",
    Code.UNFAMILIAR: "Use a head that was trained on such images.",
    Code.CONTRADICTION: "Correct the files of the study: patient's name, birth date, sex, or an "
    "SOP Instance UID that two have.",
    Code.OS_ERROR: "Check the permissions of the file, and the disk.",
    Code.CHANGED: "Repeat the command when no other program writes to the source.",
    Code.DAMAGED_HEADER: "Export the file again; the data set is malformed.",
    Code.NO_PIXELS: "Export the file again with its image; this copy has none.",
    Code.TRUNCATED: "The file is incomplete: copy or export it again.",
    Code.UNSUPPORTED_TRANSFER_SYNTAX: "For a JPEG of 12 or 16 bits, pip install "
    "'tf-dicom-ce[codecs]'; else export it uncompressed, as Explicit VR Little Endian.",
    Code.WRONG_TRANSFER_SYNTAX: "Export it again, uncompressed: transfer syntax and pixel data "
    "contradict each other.",
    Code.VIDEO: "Run pip install 'tf-dicom-ce[codecs]', or export the clip as a multi-frame JPEG "
    "image.",
    Code.UNSUPPORTED_PHOTOMETRIC: "Export as MONOCHROME2, RGB, YBR_FULL or PALETTE COLOR.",
    Code.TOO_LARGE: "Check the file: it claims to be larger than any ultrasound image.",
    Code.FRAME_OUT_OF_RANGE: "Give a frame number below (0028,0008) Number of Frames.",
    Code.DECODE_FAILED: "The compressed pixels are damaged, or of a rare kind: export it again.",
    Code.TIMED_OUT: "Try again on an idle machine; if it fails again, export the file again.",
    Code.READER_DIED: "Try again with more memory; if it fails again, export it uncompressed.",
}


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A file that yields no frame."""

    code: Code
    # The name of an exception class or of an element; never an element's value, which may identify
    # the patient.
    detail: str = ""
