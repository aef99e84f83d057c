"""The page of an audit: pictures with doubtful tags, to be decided one by one."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.preprocessing import StandardScaler, normalize

from tf_dicom_ce.auditing.finding import CONTRADICTED, Finding
from tf_dicom_ce.data.ultrasound import UltrasoundDataset
from tf_dicom_ce.intake.thumbnails import thumbnails
from tf_dicom_ce.tags.tag_table import AUDIT_COLUMNS
from tf_dicom_ce.templates import fill
from tf_dicom_ce.whole_files import write_text

_MOST = 200  # cards of either kind; the table has all
_PICTURES = 4  # pictures of a card, and similar pictures


def write_page(
    path: Path,
    findings: Sequence[Finding],
    summary: str,
    data: UltrasoundDataset,
    numbers: np.ndarray,
    features: np.ndarray,
) -> None:
    """Writes the page, for this user alone.

    Args:
        path: The file to write.
        findings: Findings of an audit, in their order.
        summary: Summary of the audit, in lines.
        data: The audited data set.
        numbers: Numbers of the audited files in the index, int [n].
        features: Features of these files, float [n, F].
    """
    index = data.source.index
    doubted = [f for f in findings if (f.wrong or 0) > CONTRADICTED]
    proposed = [f for f in findings if f.group is None and f.right > CONTRADICTED]
    kinds = [_cards(doubted), _cards(proposed)]
    shown = [card for cards in kinds for card in cards[:_MOST]]
    alike = _Alike(numbers, features, [index.rows[number].patient for number in numbers])
    of = {(f.row, f.tag): f.value for f in findings}
    cards, pictured = [], set()
    for card in shown:
        own = [f.row for f in card[:_PICTURES]]
        others = alike.nearest(own[0])
        pictured |= {*own, *others}
        cards.append(_content(card, own, others, of))
    content = {
        "summary": summary,
        "cards": cards,
        "pictures": thumbnails(index, data.source.reader, pictured),
        "left": sum(map(len, kinds)) - len(shown),
        "values": _values(findings),
        "columns": AUDIT_COLUMNS,
    }
    write_text(path, fill("auditing/audit.html.jinja", content), private=True)


def _cards(findings: Iterable[Finding]) -> list[list[Finding]]:
    """Groups findings of a study with the same value into cards; the likeliest come first."""
    cards: dict[tuple, list[Finding]] = {}
    for finding in findings:
        key = (finding.tag, finding.unit, finding.value, finding.proposed)
        cards.setdefault(key, []).append(finding)
    return sorted(cards.values(), key=lambda card: -_likeliest(card[0]))


def _likeliest(finding: Finding) -> float:
    wrong = finding.wrong
    return finding.right if wrong is None else wrong


def _content(
    card: Sequence[Finding],
    pictures: Sequence[int],
    alike: Sequence[int],
    values: Mapping[tuple[int, str], str],
) -> dict[str, Any]:
    first = card[0]
    return {
        "tag": first.tag,
        "value": first.value,
        "group": first.group,
        "wrong": first.wrong,
        "proposed": first.proposed,
        "proposed_group": first.proposed_group,
        "right": first.right,
        "pictures": pictures,
        "alike": [[row, values.get((row, first.tag), "")] for row in alike],
        "files": [finding.line() for finding in card],
    }


def _values(findings: Iterable[Finding]) -> dict[str, list[str]]:
    """For each tag, the proposed values of its groups, to choose from."""
    pairs = sorted({(f.tag, f.proposed) for f in findings if f.proposed})
    return {
        tag: [value for _, value in own]
        for tag, own in itertools.groupby(pairs, key=lambda pair: pair[0])
    }


class _Alike:
    """Finds similar files of other patients, by the cosine of standardised features."""

    def __init__(self, numbers: np.ndarray, features: np.ndarray, patients: Sequence[int]):
        self.numbers, self.patients = numbers, np.array(patients)
        self.features = normalize(StandardScaler().fit_transform(features))

    def nearest(self, number: int) -> list[int]:
        at = np.searchsorted(self.numbers, number)
        cosine = self.features @ self.features[at]
        cosine[self.patients == self.patients[at]] = -np.inf
        best = np.argsort(-cosine, kind="stable")[:_PICTURES]
        return self.numbers[best[np.isfinite(cosine[best])]].tolist()
