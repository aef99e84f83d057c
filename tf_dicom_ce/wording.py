"""A measure in words: its unit, what it says, and its numbers as they are shown."""

from collections.abc import Sequence
from typing import NamedTuple


class Words(NamedTuple):
    """What stands beside a number.

    Attributes:
        unit: Of the number.
        meaning: What it says.
    """

    unit: str
    meaning: str


_MEASURES = {
    "accuracy": Words("share", "images whose class is right"),
    "kappa": Words(
        "ratio", "Cohen's, of ordered classes with quadratic weights; 1 all agree, 0 as by chance"
    ),
    "mean_absolute_error": Words("classes", "mean distance of the classes' numbers"),
    "auroc": Words("share", "area under the ROC, mean over the classes, each against the rest"),
    "rank_inconsistency": Words(
        "share", "images that pass a threshold above one they do not pass; less is better"
    ),
    "dice": Words("share", "overlap, mean over the classes an image has, then over the images"),
    "rec": Words("z-score²", "L_rec, mean squared error of what was painted in"),
    "rec_of_mean": Words("z-score²", "L_rec of painting the mean, to compare `rec` with"),
    "joint": Words("–", "what the training brings down (Eq. 3, and the loss on tags if any)"),
    "tags": Words("nats", "loss of predicting the tags"),
    "tags_accuracy": Words("share", "labels of present tags that the encoder predicts right"),
}
_BY_CLASS = {
    "recall": Words("share", "images of the class that are found"),
    "dice": Words("share", "overlap in the images that have it, 0 where it is missed"),
    "hausdorff_95": Words(
        "pixels of the source",
        "95 % Hausdorff distance in the images that have it, the diagonal where it is missed; "
        "less is better",
    ),
    "surface_dice": Words(
        "share",
        "outline within 1 % of the image's diagonal, in the images that have it, 0 where missed",
    ),
    "false_positive": Words("share", "images without it in which some is found; less is better"),
}


def describe(name: str, classes: Sequence[str] = ()) -> Words:
    """Tells the unit and the meaning of a measure.

    Args:
        name: As in `result.json`, e.g. `accuracy`, `recall_1` or `dice_liver`.
        classes: Names, for measures that give a class by its number.

    Returns:
        The words, the class's name first if it is of one; of an unknown measure "–" and nothing.
    """
    if name in _MEASURES:
        return _MEASURES[name]
    for kind, (unit, meaning) in _BY_CLASS.items():
        of = name.removeprefix(f"{kind}_")
        if of != name:
            numbered = kind == "recall" and int(of) < len(classes)
            return Words(unit, f"{classes[int(of)] if numbered else of}: {meaning}")
    return Words("–", "")


def number(value: float | None) -> str:
    """Four decimals, or "–" where there is no number."""
    return "–" if value is None else f"{value:.4f}"


def interval(low: float | None, high: float | None) -> str:
    """Both ends, or "–" where there are none."""
    return "–" if low is None else f"{low:.4f} to {high:.4f}"
