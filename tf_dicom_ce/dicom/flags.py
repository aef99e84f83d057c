"""All flags: notes on an image that is read nevertheless."""

import enum
from collections.abc import Collection


class Flag(enum.StrEnum):
    """A decision on an image, or something odd; reports show the value."""

    # Where the ultrasound is: `regions`, `sector`.
    CROPPED = "cropped to region"
    CLAMPED = "region clamped to the image"
    IMPLAUSIBLE_REGION = "region implausible, ignored"
    SEVERAL_REGIONS = "several regions, largest taken"
    TWO_PANES = "two or more panes, largest taken"
    UNTYPED_REGION = "region without a data type, taken as tissue"
    NO_TISSUE_REGION = "no region is of 2D tissue, whole image taken"
    SECTOR_FOUND = "sector found"
    NO_SECTOR = "no sector found"
    BLACKENED = "blackened outside of the sector"
    # What the header declares: `decisions`, `grayscale`.
    COLOUR_DOPPLER = "colour Doppler declared"
    MODALITY_LUT = "Modality LUT applied"
    VOI_LUT = "VOI LUT applied"
    WINDOWED = "windowed to 8 bits"
    UNUSABLE_LUT = "lookup table or window unusable, ignored"
    MIN_MAX = "scaled from its minimum and maximum to 8 bits"
    INVERTED = "MONOCHROME1 inverted"
    HIGH_BYTE = "colour reduced to its high byte"
    NOT_SQUARE = "pixels not square, not resampled"
    OVERLAY = "overlay planes ignored"
    BURNED_IN = "burned-in annotation declared"
    LOSSY = "lossy compressed"
    # Pixels that contradict the header: `decisions`, `frames`, `decoders`.
    HIGH_BIT = "High Bit is not Bits Stored - 1"
    UNUSED_BITS = "bits beyond Bits Stored are set, ignored"
    BEYOND_BITS_STORED = "values beyond Bits Stored, scaled from minimum and maximum"
    NOT_SUBSAMPLED = "YBR_FULL_422 of three bytes a pixel, read as YBR_FULL"
    SURPLUS_PIXELS = "more pixel data than the frames need"
    COLOUR_SPACE = "colour space of the codestream differs from the header's, codestream's taken"
    SAMPLES = "samples per pixel of the codestream differ from the header's, codestream's taken"
    NO_END_MARKER = "JPEG without its end marker, all pixels there"
    # The patient of the image: `intake.identity`, `intake.index`.
    FROM_TABLE = "patient from the labels CSV"
    PLACEHOLDER = "Patient ID is a placeholder"
    BY_STUDY = "no Patient ID, patient taken from the study"
    BY_FILE = "no Patient ID and no study, file taken as a patient of its own"
    SEVERAL_IDS = "study or instance stands under several Patient IDs, taken as one patient"
    WITHOUT_ISSUER = "Patient ID with and without an issuer, taken as one patient"
    SEVERAL_ISSUERS = "Patient ID of several issuers, told apart by the issuer"
    SHARED_INSTANCE = "SOP Instance UID of another image, which has other pixels"
    TAGS_FROM_TABLE = "tags from the labels CSV"

    @property
    def slug(self) -> str:
        """The name for `--exclude`, e.g. "burned-in"."""
        return self.name.lower().replace("_", "-")

    @property
    def needs_decoding(self) -> bool:
        """True if only decoding can tell, so that `index` does not know it."""
        return self in _NEED_DECODING


_NEED_DECODING = frozenset(
    {
        *(Flag.SECTOR_FOUND, Flag.NO_SECTOR, Flag.BLACKENED, Flag.UNUSED_BITS),
        *(Flag.BEYOND_BITS_STORED, Flag.COLOUR_SPACE, Flag.SAMPLES, Flag.NO_END_MARKER),
    }
)


def flags_named(slugs: Collection[str]) -> frozenset[Flag]:
    """Returns the flags with these slugs, as in the settings."""
    return frozenset(flag for flag in Flag if flag.slug in slugs)
