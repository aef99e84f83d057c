"""Tags made wrong on purpose: controls that tell what the tags themselves are worth.

Both functions work on each side of a split by itself, so that nothing leaks across, and are pure
functions of their arguments: the wrong tags stay the same over all of a training. Both take

- `y`: encoded tags, float [rows, L];
- `present`: 1 over the span of a tag that is known, float [rows, L];
- `sides`: row numbers of each side; rows on none stay as they are;
- `seed`: the same seed makes the same wrong tags;

and return y and present, new arrays.
"""

from collections.abc import Sequence

import numpy as np

# Streams of random numbers beside those of split and order; the last word must not be 0.
_SHUFFLE, _NOISE = 1, 2


def shuffle_among_patients(
    y: np.ndarray,
    present: np.ndarray,
    patients: np.ndarray,
    sides: Sequence[np.ndarray],
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Gives every patient the tags of another patient of the same side.

    The patients of a side stand in a circle at random, and each gets the tags of the next, q:
    his image k, counted from 0 in the order of rows, those of image k mod n_q of q's n_q. So
    each patient's tags are used once, and tags that agree within q agree within him. Another
    patient may have the same tags. A side of one patient stays as it is. `patients` are the
    patient of each row, int [rows].
    """
    source = np.arange(len(y))
    for side, rows in enumerate(sides):
        rng = np.random.default_rng([seed, side, _SHUFFLE])
        circle = rng.permutation(np.unique(patients[rows]))
        for patient, donor in zip(circle, np.roll(circle, -1), strict=True):
            own, given = (rows[patients[rows] == name] for name in (patient, donor))
            source[own] = np.resize(given, len(own))  # repeats what is too short
    return y[source], present[source]


def add_tag_noise(
    y: np.ndarray,
    present: np.ndarray,
    spans: Sequence[int],
    sides: Sequence[np.ndarray],
    rate: float,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Replaces tags of images by those of a random other image of the same side.

    Every tag of every image by itself, with probability `rate`, value and presence together. The
    other image may have the same tag: where v has the share s_v, a tag changes with probability
    rate · (1 − Σ s_v²). What is replaced at one rate is replaced alike at every higher one. A
    side of one image stays as it is. `spans` are the number of labels of each tag, in the order
    of y.
    """
    source = np.tile(np.arange(len(y))[:, np.newaxis], len(spans))
    for side, rows in enumerate(sides):
        if len(rows) < 2:
            continue
        rng = np.random.default_rng([seed, side, _NOISE])
        replaced = rng.random((len(rows), len(spans))) < rate
        own = np.arange(len(rows))[:, np.newaxis]
        other = rng.integers(len(rows) - 1, size=replaced.shape)
        other += other >= own  # all but the image itself, equally likely
        source[rows] = rows[np.where(replaced, other, own)]
    source = np.repeat(source, spans, axis=1)
    return np.take_along_axis(y, source, axis=0), np.take_along_axis(present, source, axis=0)
