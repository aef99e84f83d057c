import collections

import numpy as np
import pytest

from tf_dicom_ce.phantom.studies import PADDED, PROBE_FAULTS, STUDY_FAULTS, VAGUE, write_tags

STUDIES = ["US THYROID BIOPSY", "US BIOPSY LIVER FOCAL", "US DRAINAGE PELVIS"]
PROBES = ["SC6-1", "SL10-2"]


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(0)
    return [write_tags(rng, STUDIES[0], PROBES[0], STUDIES, PROBES) for _ in range(4000)]


@pytest.mark.parametrize(
    ("kind", "rates"), [("study_fault", STUDY_FAULTS), ("probe_fault", PROBE_FAULTS)]
)
def test_faults_occur_at_their_rates(drawn, kind, rates):
    counts = collections.Counter(getattr(tags, kind) for tags in drawn)
    for fault, rate in rates.items():
        assert counts[fault] / len(drawn) == pytest.approx(rate, abs=0.01)
    assert counts[""] / len(drawn) == pytest.approx(1 - sum(rates.values()), abs=0.02)


def test_what_each_fault_writes(drawn):
    studies = {tags.study_fault: tags.study for tags in drawn}
    assert studies[""] == "US THYROID BIOPSY"
    assert studies["missing"] is None
    assert studies["empty"] == ""
    assert studies["untidy"] == "  us  thyroid biopsy"
    assert studies["vague"] == VAGUE
    assert studies["wrong"] in STUDIES[1:]
    assert {tags.probe for tags in drawn if not tags.probe_fault} == {
        ("SC6-1",),
        ("SC6-1", "UNUSED", "UNUSED"),
    }
    probes = {tags.probe_fault: tags.probe for tags in drawn}
    assert probes["missing"] is None
    assert probes["unused"] == ("UNUSED", "UNUSED")
    assert probes["wrong"][0] == "SL10-2"
    padded = [len(tags.probe) == 3 for tags in drawn if not tags.probe_fault]
    assert np.mean(padded) == pytest.approx(PADDED, abs=0.03)
