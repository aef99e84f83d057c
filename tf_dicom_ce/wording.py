"""Measures in words: unit, meaning, and format of numbers."""

from collections.abc import Sequence

#: Measure -> its unit and its meaning.
_MEASURES = {
    "accuracy": ("share", "images whose class is right"),
    "kappa": (
        "ratio",
        "Cohen's kappa, for ordered classes with quadratic weights; 1: all agree, 0: chance",
    ),
    "mean_absolute_error": ("classes", "mean distance of the classes' numbers"),
    "auroc": ("share", "area under the ROC, mean over the classes, each against the rest"),
    "calibration_error": (
        "share",
        "mean distance of the probability of the class found from the share that is right, in 15 "
        "bins; less is better",
    ),
    "rank_inconsistency": (
        "share",
        "images that pass a threshold above one they do not pass; less is better",
    ),
    "dice": ("share", "overlap, mean over the classes an image has, then over the images"),
    "rec": ("z-score²", "L_rec, mean squared error of what was painted in"),
    "rec_of_mean": ("z-score²", "L_rec of painting the mean, to compare `rec` with"),
    "joint": ("–", "the minimised loss (Eq. 3, plus the loss on tags if any)"),
    "tags": ("nats", "loss of predicting the tags"),
    "tags_accuracy": ("share", "labels of present tags that the encoder predicts right"),
}
#: The same for measures that every class has.
_BY_CLASS = {
    "recall": ("share", "images of the class that are found"),
    "dice": ("share", "overlap in the images that have it, 0 where it is missed"),
    "hausdorff_95": (
        "pixels of the source",
        "95 % Hausdorff distance in the images that have it, the diagonal where it is missed; "
        "less is better",
    ),
    "surface_dice": (
        "share",
        "outline within 1 % of the image's diagonal, in the images that have it, 0 where missed",
    ),
    "false_positive": ("share", "images without it in which some is found; less is better"),
}


def describe(name: str, classes: Sequence[str] = ()) -> tuple[str, str]:
    """The unit and the meaning of a measure.

    It is named as in `result.json`, e.g. `accuracy`, `recall_1` or `dice_liver`. For a measure of a
    class, the meaning begins with the class's name. An unknown measure gives "–" and "".
    """
    if name in _MEASURES:
        return _MEASURES[name]
    for kind, (unit, meaning) in _BY_CLASS.items():
        of = name.removeprefix(f"{kind}_")
        if of != name:
            numbered = kind == "recall" and int(of) < len(classes)
            return unit, f"{classes[int(of)] if numbered else of}: {meaning}"
    return "–", ""


def number(value: float | None) -> str:
    """Four decimals, or "–" if there is no number."""
    return "–" if value is None else f"{value:.4f}"


def interval(low: float | None, high: float | None) -> str:
    """Both ends, or "–" if there is no interval."""
    return "–" if low is None else f"{low:.4f} to {high:.4f}"
