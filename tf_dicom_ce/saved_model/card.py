"""The card of an exported model: `MODEL_CARD.md`, all of it from what `<name>.json` holds."""

import re

import jinja2

_MEANINGS = {
    "accuracy": "share of images whose class is right",
    "kappa": "Cohen's; of ordered classes with quadratic weights",
    "mean_absolute_error": "mean distance of the classes' numbers",
    "auroc": "mean over the classes, each against the rest",
    "rank_inconsistency": "share of images that pass a threshold above one they do not pass",
    "dice": "mean over the classes, then over images at the source's size; 0 to 1",
    "rec": "L_rec, mean squared error of what was painted in",
    "rec_of_mean": "L_rec of painting the mean, to compare `rec` with",
    "joint": "what the training brings down (Eq. 3, and the loss on tags where there is one)",
    "tags": "loss of predicting the tags",
    "tags_accuracy": "share of the labels of present tags that the encoder predicts right",
}
_MEANINGS_BY_CLASS = {
    "recall": "share of the images of the class that are found",
    "dice": "mean over images at the source's size; 0 to 1",
    "hausdorff_95": "95 % Hausdorff distance in pixels of the source; less is better",
    "surface_dice": "share of the outline within 1 % of the image's diagonal",
}
_SHOWN_ELSEWHERE = {
    *("data_fingerprint", "split_fingerprint", "weights_digest", "synthetic_data", "task"),
}


def model_card(name: str, content: dict) -> str:
    """Writes the card of a model.

    Args:
        name: `encoder`, `classification` or `segmentation`.
        content: What its `<name>.json` holds. What is not in it, the card calls not recorded.

    Returns:
        Markdown.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tf_dicom_ce.saved_model", "."),
        autoescape=False,  # Markdown; names of classes and tags go through `cell`
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = _cell
    # A head stands on an encoder; an encoder stands for itself.
    encoder = content if name == "encoder" else content.get("encoder")
    measures = content.get("validation" if name == "encoder" else "test") or {}
    return environment.get_template("model_card.md.jinja").render(
        name=name,
        content=content,
        encoder=encoder,
        role_of_tags=_role_of_tags(encoder or {}),
        data={"The encoder's pretraining": encoder}
        | ({} if name == "encoder" else {"The head": content}),
        measures=[_row(key, value, content.get("classes", [])) for key, value in measures.items()],
        settings={
            key: value
            for key, value in content.items()
            if key not in _SHOWN_ELSEWHERE and isinstance(value, str | int | float)
        },
    )


def _role_of_tags(encoder: dict) -> str:
    """What the tags did in the pretraining, in words."""
    roles = {
        "the discriminator saw them": encoder.get("use_dicom"),
        "the encoder learned to predict them": encoder.get("lambda_tags"),
    }
    words = " and ".join(role for role, played in roles.items() if played)
    if "use_dicom" not in encoder:
        return "their part in the pretraining is not recorded"
    if not words:
        return "not used in the pretraining"
    return words + (" (shuffled among patients: a control)" * bool(encoder.get("shuffle_tags")))


def _row(key: str, measure: float | dict, classes: list[str]) -> dict[str, str]:
    """Words for one measure: of an encoder a number, of a head a dict with its interval."""
    meaning = _MEANINGS.get(key, "")
    for kind, words in _MEANINGS_BY_CLASS.items():
        of = key.removeprefix(f"{kind}_")
        if of != key:
            number = int(of) if of.isdecimal() else None
            named = number is not None and number < len(classes)
            meaning = f"{classes[number] if named else of}: {words}"
    if not isinstance(measure, dict):
        return {"name": key, "value": _number(measure), "meaning": meaning}
    low, high = measure["interval_95"]
    mean, deviation = measure["bootstrap_mean"], measure["bootstrap_sd"]
    return {
        "name": key,
        "value": _number(measure["value"]),
        "interval": "–" if low is None else f"{low:.4f} to {high:.4f}",
        "bootstrap": "–" if mean is None else f"{mean:.4f} ± {deviation:.4f}",
        "meaning": meaning,
    }


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _cell(value: object) -> str:
    """Text of a person's choosing, so that it stays within its place in a table or a line."""
    text = re.sub(r"\s+", " ", str(value))
    return re.sub(r"([\\`*_|<>\[\]#])", r"\\\1", text)
