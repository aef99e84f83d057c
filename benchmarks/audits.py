"""Measures how many planted mistakes an audit finds, compared with simpler ways (10 min).

    tf-dicom-ce phantom --preset standard --out DIR
    python -m benchmarks audits phantom DIR
    python -m benchmarks audits wrapped WRAPPED_US

For the phantom, `truth.csv` has the true content of each file. For WRAPPED_US (DICOM with a
`truth.csv`: path, organ, patient), the organ gives the right group. Sets:

    as it is        the phantom's slips in single files; for WRAPPED_US, a schema that maps its
                    vague description to a separate group
    files           3 % of the files get another group's value, --seeds times
    studies         all files of 3 % of the studies do, --seeds times

Ways, each with AUROC and the precision among the n likeliest files, n being the number of wrong
ones:

    audit           pictures and values, as `tf-dicom-ce audit` does
    pictures        its pictures alone
    majority        the share of the study's other files that say something else
    thumbnails      a forest on 16×24 pixels, cross-validated by patient; 1 − p of the value

The 95 % intervals are over patients. `allowed` are wrong values whose study sometimes shows such
scenes; the last columns leave them out. --network trains a VGG16-BN with a quarter of the width on
the groups themselves, in five folds, and measures how well it predicts them (10 min more).
"""

import argparse
import csv
import dataclasses
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.tables import aligned

_RATE, _RESAMPLES = 0.03, 300
_VAGUE = '{ regex = "guided (intervention|procedure)", labels = ["drainage"] },'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("phantom", "wrapped"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--encoder", default="imagenet")
    parser.add_argument("--image-size", type=int, nargs=2, default=(128, 192))
    parser.add_argument("--seeds", type=int, default=3, help="of the planted sets (3)")
    parser.add_argument("--network", action="store_true", help="train one, too")


@dataclasses.dataclass(frozen=True)
class Planted:
    """One tag of one set."""

    name: str
    groups: np.ndarray  # as entered, int [n]; −1: none
    true: np.ndarray  # int [n]
    allowed: np.ndarray  # whether the picture allows what is entered, bool [n]


@dataclasses.dataclass(frozen=True)
class Archive:
    """Files with features and truths."""

    rows: list
    patients: np.ndarray
    features: np.ndarray
    thumbnails: np.ndarray
    frames: np.ndarray


def run(options: argparse.Namespace) -> None:
    of = {"phantom": _phantom, "wrapped": _wrapped}[options.what]
    for tag, archive, sets in of(options):
        print(f"\n{options.what}, {tag.name}")
        sets = [_judgeable(archive, planted) for planted in sets]
        for planted in sets:
            print(f"\n{planted.name}")
            _measure(tag, archive, planted)
        if options.network:
            print(f"network, loss a unit: {_network_loss(tag, archive, sets[0]):.3f}")


def _measure(tag, archive: Archive, planted: Planted) -> None:
    from scipy.special import softmax

    from tf_dicom_ce.auditing.audit import _units
    from tf_dicom_ce.auditing.judging import judge

    units = _units(tag, archive.rows)
    groups, known = planted.groups, planted.groups >= 0
    judged = judge(archive.features, groups, archive.patients, units, 0)
    own = (np.arange(len(groups)), groups)
    pictures = softmax(judged.scores / judged.slips.temperature, axis=1)[units]
    ways = {
        "audit": judged.wrong,
        "pictures": 1 - pictures[own],
        "majority": _majority(groups, archive.rows),
        "thumbnails": 1 - _forest(archive.thumbnails, groups, archive.patients)[own],
    }
    wrong = known & (groups != planted.true)
    fair = known & ~(wrong & planted.allowed)
    lines = [["way", "AUROC", "95 %", "precision", "95 %", "AUROC, not allowed", "precision"]]
    for name, score in ways.items():
        lines.append([name])
        for measure in (_auroc, _precision):
            value, low, high = _interval(measure, wrong, score, known, archive.patients)
            lines[-1] += [f"{value:.3f}", f"{low:.3f} to {high:.3f}"]
        lines[-1] += [f"{m(wrong[fair], score[fair]):.3f}" for m in (_auroc, _precision)]
    print(f"{known.sum()} files, {wrong.sum()} wrong, {(wrong & planted.allowed).sum()} allowed")
    print(aligned(lines))
    agreeing = _agreeing(groups, units)
    truths = ((wrong & ~agreeing).sum(), (wrong & agreeing).sum())
    for of, what, true in zip(judged.estimate_wrong(0), ("study", "pictures"), truths, strict=True):
        told = f"{of.mean[-1]:.0f} ({of.low[-1]:.0f} to {of.high[-1]:.0f})"
        print(f"about {told} contradict their {what}; true: {true}")
    print(f"confident learning: {_confident(pictures, groups):.0f}; true: {wrong.sum()}")
    unknown = ~known & (planted.true >= 0)
    if unknown.any():
        right, others = (p.argmax(axis=1) == planted.true for p in (judged.truth, pictures))
        share = f"{right[unknown].mean():.3f}, by pictures alone {others[unknown].mean():.3f}"
        print(f"proposals for {unknown.sum()} files without a value: right {share}")


def _agreeing(groups: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Whether a file says what most files of its unit say."""
    counts = np.zeros((units.max() + 1, groups.max() + 1), int)
    np.add.at(counts, (units[groups >= 0], groups[groups >= 0]), 1)
    return counts.argmax(axis=1)[units] == groups


def _auroc(wrong, score):
    """The share of pairs of a wrong and a right value in the right order; equal ones count half."""
    from scipy.stats import rankdata

    count = wrong.sum()
    if not 0 < count < len(wrong):
        return np.nan
    return (rankdata(score)[wrong].sum() - count * (count + 1) / 2) / (count * (len(wrong) - count))


def _precision(wrong, score):
    """Among as many files as are wrong; of equal scores each counts its share."""
    count = wrong.sum()
    if not count:
        return np.nan
    edge = np.sort(score)[-count]
    above, at = score > edge, score == edge
    return (wrong[above].sum() + (count - above.sum()) * wrong[at].mean()) / count


def _interval(measure, wrong, score, known, patients):
    rng, rows = np.random.default_rng(0), np.flatnonzero(known)
    by_patient = [rows[patients[rows] == p] for p in np.unique(patients[rows])]
    drawn = []
    for _ in range(_RESAMPLES):
        chosen = rng.integers(len(by_patient), size=len(by_patient))
        at = np.concatenate([by_patient[k] for k in chosen])
        drawn.append(measure(wrong[at], score[at]))
    return measure(wrong[rows], score[rows]), *np.nanpercentile(drawn, (2.5, 97.5))


def _majority(groups: np.ndarray, rows) -> np.ndarray:
    """Share of the other files of a study that say something else; .5 where there is no other."""
    studies = np.unique([row.study or row.path for row in rows], return_inverse=True)[1]
    counts = np.zeros((studies.max() + 1, groups.max() + 1))
    np.add.at(counts, (studies[groups >= 0], groups[groups >= 0]), 1)
    others = counts.sum(axis=1)[studies] - 1
    same = counts[studies, groups] - 1
    return np.where(others > 0, 1 - same / np.maximum(others, 1), 0.5)


def _forest(thumbnails, groups, patients) -> np.ndarray:
    from sklearn.ensemble import RandomForestClassifier

    from tf_dicom_ce.auditing.pictures import _folds

    found = np.zeros((len(groups), groups.max() + 1))
    for train, test in _folds(groups, patients, 0):
        forest = RandomForestClassifier(300, random_state=0, min_samples_leaf=2)
        forest.fit(thumbnails[train], groups[train])
        found[np.ix_(test, forest.classes_)] = forest.predict_proba(thumbnails[test])
    return found


def _confident(p: np.ndarray, groups: np.ndarray) -> float:
    """Number of wrong labels by confident learning (Northcutt et al., 2021, section 3).

    t_j is the mean p_j of files labelled j; a file counts for (label, j) where j is the likeliest
    of the groups whose p_j is t_j or more. Rows are scaled to the number of files with the label.
    """
    known = groups >= 0
    p, groups = p[known], groups[known]
    count = np.bincount(groups)
    thresholds = np.array([p[groups == j, j].mean() for j in range(len(count))])
    confident = np.where(p >= thresholds, p, -1.0)
    likeliest, sure = confident.argmax(axis=1), confident.max(axis=1) >= 0
    joint = np.zeros((len(count), len(count)))
    np.add.at(joint, (groups[sure], likeliest[sure]), 1)
    share = np.diag(joint) / np.maximum(joint.sum(axis=1), 1)
    return float((count * (1 - share)).sum())


def _network_loss(tag, archive: Archive, planted: Planted) -> float:
    """Mean loss a unit of a network that learns the groups, at the best temperature."""
    import keras
    import tensorflow as tf
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    from tf_dicom_ce.auditing.audit import _units
    from tf_dicom_ce.auditing.pictures import _folds
    from tf_dicom_ce.models.backbones import build_encoder
    from tf_dicom_ce.preprocessing import standardise

    groups, units = planted.groups, _units(tag, archive.rows)
    scores = np.zeros((len(groups), groups.max() + 1))
    x = standardise(tf.constant(archive.frames)).numpy()
    for fold, (train, test) in enumerate(_folds(groups, archive.patients, 0)):
        keras.utils.set_random_seed(fold)
        image = keras.Input(x.shape[1:])
        scales = build_encoder("vgg16bn", 0.25)(image)
        pooled = [keras.layers.GlobalAveragePooling2D()(scales[k]) for k in ("P4", "P5")]
        logits = keras.layers.Dense(scores.shape[1])(keras.layers.Concatenate()(pooled))
        network = keras.Model(image, logits)
        rate = keras.optimizers.schedules.CosineDecay(1e-3, 1500)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        network.compile(keras.optimizers.Adam(rate), loss)
        epochs = -(-1500 * 16 // len(train))
        network.fit(x[train], groups[train], batch_size=16, epochs=epochs, verbose=0)
        scores[test] = log_softmax(network.predict(x[test], verbose=0), axis=1)
    sums = np.stack([np.bincount(units, column) for column in scores.T], axis=1)
    means, known = sums / np.bincount(units)[:, np.newaxis], groups >= 0
    weights = known / np.maximum(np.bincount(units, known), 1)[units]

    def loss_at(log_t):
        own = log_softmax(means / np.exp(log_t), axis=1)[units, np.maximum(groups, 0)]
        return -np.average(own, weights=weights)

    return minimize_scalar(loss_at, bounds=(-3, 3), method="bounded").fun


def _archive(options, source, tags="ultrasound") -> tuple[Archive, object]:
    import tensorflow as tf

    from tf_dicom_ce.auditing.audit import _features
    from tf_dicom_ce.data.ultrasound import UltrasoundDataset
    from tf_dicom_ce.models.backbones import load_teacher

    size = tuple(options.image_size)
    data = UltrasoundDataset.from_dicom(source, tags=tags, image_size=size)
    samples = data.decodable()
    index = data.source.index
    rows = [index.rows[data.source.samples[k].row] for k in samples]
    features = _features(load_teacher(options.encoder, size), data, samples)
    frames = np.asarray(data.source.frames.read(samples))
    small = tf.image.resize(frames, (16, 24), "area").numpy().reshape(len(rows), -1)
    frames = tf.image.resize(frames, (64, 96), "area").numpy()
    patients = np.unique([row.patient for row in rows], return_inverse=True)[1]
    return Archive(rows, patients, features, small, frames), index.schema


def _encode(schema, tag, value) -> str:
    """The group of a value, as an audit names it."""
    from tf_dicom_ce.auditing.audit import _words
    from tf_dicom_ce.tags.rules import match_tag

    return _words(match_tag(tag, {tag.elements[0].spec: (value,)}).labels)


def _entered(archive, schema, tag) -> tuple[np.ndarray, list[str]]:
    """Groups as entered, of those that are judged, and their names."""
    from tf_dicom_ce.auditing.audit import _groups, _judged

    groups = _groups(schema.tags, archive.rows)[tag.name]
    names = _judged(groups, archive.patients)
    number = {name: k for k, name in enumerate(names)}
    return np.array([number.get(name, -1) for name in groups]), names


def _planted(archive, entered, true, seeds, allows) -> Iterator[Planted]:
    """Sets whose values are right but for those of 3 % of the files, and of the studies."""
    clean, count = np.where(entered >= 0, true, -1), true.max() + 1
    studies = np.unique([row.study or row.path for row in archive.rows], return_inverse=True)[1]
    for what, of in (("files", np.arange(len(true))), ("studies", studies)):
        for seed in range(seeds):
            rng, groups = np.random.default_rng(seed), clean.copy()
            there = np.unique(of[clean >= 0])
            for unit in rng.choice(there, round(_RATE * len(there)), replace=False):
                rows = (of == unit) & (clean >= 0)
                right = clean[rows][0]
                groups[rows] = rng.choice([k for k in range(count) if k != right])
            yield Planted(f"{what} {seed}", groups, true, allows(groups))


def _judgeable(archive: Archive, planted: Planted) -> Planted:
    """Without groups of too few patients."""
    from tf_dicom_ce.auditing.pictures import FOLDS

    groups = planted.groups
    people = [len(np.unique(archive.patients[groups == k])) for k in range(groups.max() + 1)]
    number = np.append(
        np.where(np.array(people) >= FOLDS, np.cumsum(np.array(people) >= FOLDS) - 1, -1), -1
    )
    true = number[np.minimum(planted.true, len(people))]
    return dataclasses.replace(planted, groups=np.where(true < 0, -1, number[groups]), true=true)


def _phantom(options):
    from tf_dicom_ce.phantom import studies
    from tf_dicom_ce.phantom.cohort import _descriptions

    with (options.folder / "truth.csv").open(newline="") as file:
        truth = {row["path"].removeprefix("pretraining/"): row for row in csv.DictReader(file)}
    archive, schema = _archive(options, options.folder / "pretraining")
    for tag in schema.tags:
        entered, names = _entered(archive, schema, tag)
        number = {name: k for k, name in enumerate(names)}
        told = [truth[row.path] for row in archive.rows]
        true = np.array([number.get(_encode(schema, tag, row[tag.name]), -1) for row in told])
        entered = np.where(true < 0, -1, entered)
        shown = {name: set() for name in ("", *(row["scene"] for row in told))}
        for value in _descriptions() if tag.name == "study" else ():
            for scene in studies.study(value).scenes:
                shown.setdefault(scene, set()).add(number.get(_encode(schema, tag, value)))

        def allows(groups, shown=shown, told=told):
            pairs = zip(groups, told, strict=True)
            return np.array([group in shown[row["scene"]] for group, row in pairs])

        sets = [Planted("as it is", entered, true, allows(entered))]
        yield tag, archive, [*sets, *_planted(archive, entered, true, options.seeds, allows)]


def _none(groups: np.ndarray) -> np.ndarray:
    """The picture allows no wrong value."""
    return np.zeros(len(groups), bool)


def _wrapped(options):
    with (options.folder / "truth.csv").open(newline="") as file:
        truth = {row["path"]: row for row in csv.DictReader(file)}
    with tempfile.TemporaryDirectory() as place:
        shipped = Path(__file__).parents[1] / "tf_dicom_ce" / "tags"
        shutil.copy(shipped / "study_descriptions.csv", place)
        text = (shipped / "ultrasound.toml").read_text()
        vague = Path(place) / "vague.toml"
        vague.write_text(text.replace("patterns = [", f"patterns = [\n{_VAGUE}", 1))
        for tags, name in ((vague, "vague"), ("ultrasound", "")):
            archive, schema = _archive(options, options.folder, str(tags))
            for tag in schema.tags[: 1 if name else None]:
                entered, _ = _entered(archive, schema, tag)
                column = "organ" if tag.name == "study" else "probe"
                shows = np.array([truth[row.path][column] for row in archive.rows])
                true = np.full(len(shows), -1)
                for what in np.unique(shows):  # the group that most of its files have
                    groups = entered[(shows == what) & (entered >= 0)]
                    true[shows == what] = np.bincount(groups).argmax() if len(groups) else -1
                entered = np.where(true < 0, -1, entered)
                sets = [Planted(name or "as it is", entered, true, _none(true))]
                if not name:
                    sets += _planted(archive, entered, true, options.seeds, _none)
                yield tag, archive, sets
