"""What shows whether F and D still learn from each other, on a few fixed images."""

import numpy as np

from tf_dicom_ce.models.patch import centre_patch

_AT_ONCE = 8  # images

#: Spans of the tags in y: (name, start, stop).
Spans = tuple[tuple[str, int, int], ...]


def diversity(predicted: np.ndarray, true: np.ndarray) -> float:
    """How much the predicted patches differ from image to image, against the true ones.

    At every pixel the standard deviation over the images; its mean over the pixels of the
    predicted patches over that of the true ones. 1: as diverse as the truth; 0: F paints the same
    for every image.

    Args:
        predicted: float [N, h, w, 1].
        true: float [N, h, w, 1].
    """
    return _ratio(predicted.std(axis=0).mean(), true.std(axis=0).mean())


def contrast(predicted: np.ndarray, true: np.ndarray) -> float:
    """Mean standard deviation within a predicted patch over that within a true one.

    Args:
        predicted: float [N, h, w, 1].
        true: float [N, h, w, 1].
    """
    within = (1, 2, 3)
    return _ratio(predicted.std(axis=within).mean(), true.std(axis=within).mean())


def cycled(y: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Moves one tag's labels in y on by one, the last to the first.

    A tag of one label is switched instead, between 1 and 0.

    Args:
        y: float [N, L].
        start: First position of the tag.
        stop: Position after its last.

    Returns:
        A copy, float [N, L].
    """
    other = y.copy()
    span = y[:, start:stop]
    other[:, start:stop] = 1 - span if stop - start == 1 else np.roll(span, 1, axis=1)
    return other


def sensitivities(discriminator, x, y: np.ndarray, spans: Spans) -> dict[str, float]:
    """How much D's answer depends on each tag.

    For a tag: the mean of |D(x, y) − D(x, y')| in logits, y' being y with that tag's labels
    `cycled`, over the images where y' differs from y (a tag without a label is cycled to itself);
    NaN where there is none.

    Args:
        discriminator: (x, y) -> dict with `logit`, float [N].
        x: What D sees, float [N, h, w, 1].
        y: float32 [N, L].
        spans: Name, start and stop of each tag.

    Returns:
        Tag -> sensitivity, at least 0.
    """
    logit = np.asarray(discriminator(x, y)["logit"])
    found = {}
    for name, start, stop in spans:
        other = cycled(y, start, stop)
        moved = np.any(other != y, axis=1)
        change = np.abs(np.asarray(discriminator(x, other)["logit"]) - logit)[moved]
        found[name] = float(change.mean()) if len(change) else float("nan")
    return found


def measure(model, x: np.ndarray, y: np.ndarray, spans: Spans = ()) -> dict[str, float]:
    """All measures of a `ContextEncoderGAN` on the given images.

    `d_real`, `d_fake`: mean σ(D) of true and of predicted patches. `accuracy`: share of D's
    logits on the right side of 0. `gap`: mean logit of the true patches less that of the
    predicted. `adv`: mean −log σ(D(predicted)). `diversity` and `contrast`: see there. `c_rf`:
    mean |C_rf| over both. `p_share`: |P| / (|P| + |C_rf|) of these means, 0 to 1.
    `sensitivity <tag>`: of the true patches, see `sensitivities`.

    Args:
        model: The model.
        x: z-scored, float32 [N, H, W, 1].
        y: Their tags, float32 [N, L].
        spans: Name, start and stop of each tag; () without tags.
    """
    patch = np.asarray(centre_patch(x))
    patch_hat = np.concatenate(
        [model.paint(x[k : k + _AT_ONCE]) for k in range(0, len(x), _AT_ONCE)]
    )
    seen, seen_hat = model.seen_by_d(x, patch), model.seen_by_d(x, patch_hat)
    real = {k: np.asarray(v, np.float64) for k, v in model.discriminator(seen, y).items()}
    fake = {k: np.asarray(v, np.float64) for k, v in model.discriminator(seen_hat, y).items()}
    c_rf, p = (np.mean([np.abs(real[k]), np.abs(fake[k])]) for k in ("c_rf", "p"))
    return {
        "d_real": float(_sigmoid(real["logit"]).mean()),
        "d_fake": float(_sigmoid(fake["logit"]).mean()),
        "accuracy": float(np.mean([real["logit"] > 0, fake["logit"] < 0])),
        "gap": float(real["logit"].mean() - fake["logit"].mean()),
        "adv": float(np.logaddexp(0, -fake["logit"]).mean()),
        "diversity": diversity(patch_hat, patch),
        "contrast": contrast(patch_hat, patch),
        "c_rf": float(c_rf),
        "p_share": float(_ratio(p, p + c_rf)),
        **{
            f"sensitivity {tag}": value
            for tag, value in sensitivities(model.discriminator, seen, y, spans).items()
        },
    }


def _ratio(a: float, b: float) -> float:
    return float(a / b) if b > 0 else 0.0


def _sigmoid(logit):
    return np.exp(-np.logaddexp(0, -logit))
