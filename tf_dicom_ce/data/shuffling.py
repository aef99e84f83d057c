"""Tags made wrong on purpose, as controls that measure the value of the right tags.

Both functions treat each side of a split separately, so that nothing leaks across. They are pure
functions of their arguments: the wrong tags stay the same during a training. Both take

- `y`: encoded tags, float [rows, L];
- `present`: 1 over the span of a known tag, float [rows, L];
- `sides`: row numbers of each side; rows on no side stay unchanged;
- `seed`: the same seed makes the same wrong tags;

and return new arrays y and present.
"""

from collections.abc import Sequence

import numpy as np

# Streams of random numbers, apart from those of split and order; the last word must not be 0.
_SHUFFLE, _NOISE = 1, 2


def shuffle_among_patients(
    y: np.ndarray,
    present: np.ndarray,
    patients: np.ndarray,
    sides: Sequence[np.ndarray],
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Gives every patient the tags of another patient of the same side.

    The patients of a side are put in a random circle, and each patient p gets the tags of the next
    patient q: image k of p, counted from 0 in the order of rows, gets the tags of image k mod n_q
    of q, who has n_q images. So each patient's tags are used once, and tags that agree within q
    agree within p. Another patient may have the same tags. A side with one patient stays unchanged.
    `patients` holds the patient of each row, int [rows].
    """
    source = np.arange(len(y))
    for side, rows in enumerate(sides):
        rng = np.random.default_rng([seed, side, _SHUFFLE])
        circle = rng.permutation(np.unique(patients[rows]))
        for patient, donor in zip(circle, np.roll(circle, -1), strict=True):
            own, given = (rows[patients[rows] == name] for name in (patient, donor))
            source[own] = np.resize(given, len(own))  # repeats them if they are too few
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

    Each tag of each image is replaced independently with probability `rate`, value and presence
    together. The other image may have the same value: if value v has the share s_v, a tag changes
    with probability rate · (1 − Σ s_v²). A tag replaced at one rate is replaced alike at every
    higher rate. A side with one image stays unchanged. `spans` are the numbers of labels of the
    tags, in the order of y.
    """
    source = np.tile(np.arange(len(y))[:, np.newaxis], len(spans))
    for side, rows in enumerate(sides):
        if len(rows) < 2:
            continue
        rng = np.random.default_rng([seed, side, _NOISE])
        replaced = rng.random((len(rows), len(spans))) < rate
        own = np.arange(len(rows))[:, np.newaxis]
        other = rng.integers(len(rows) - 1, size=replaced.shape)
        other += other >= own  # any image but the same, equally likely
        source[rows] = rows[np.where(replaced, other, own)]
    source = np.repeat(source, spans, axis=1)
    return np.take_along_axis(y, source, axis=0), np.take_along_axis(present, source, axis=0)
