"""Intervals and tests on simulated patients and runs; the whole table is `python -m experiments.coverage`."""

import numpy as np
import pytest
from runs import call, error_of

from experiments import coverage
from experiments.coverage import SETS, Setting, measured, patients_of


def test_test_sets_are_as_the_real_ones():
    labels, patients = patients_of("small", True, np.random.default_rng(0))
    assert np.bincount(labels).tolist() == [47, 78]
    assert np.unique(patients, return_counts=True)[1].max() == 30
    large, patients = patients_of("large", False, np.random.default_rng(0))
    assert np.bincount(large).tolist() == list(SETS["large"][:2])
    assert 500 < len(np.unique(patients)) < 750


@pytest.mark.parametrize("level", [0.9, 0.997])
def test_intervals_of_these_networks_hold(level):
    """200 studies: of 95 the share is 91.9 to 98.1 within two deviations."""
    found = measured(Setting(level, 0.0, 3, "small"), 200, 0)
    assert found["a"].min() > 0.915
    assert found["none"].max() == 0


def test_intervals_of_the_procedure_hold_where_runs_differ_and_a_patients_p_does_not():
    found = measured(Setting(0.9, 0.045, 6, "large"), 100, 1)
    assert found["b"].min() > 0.9
    assert found["type_1_b"].max() <= 0.1
    assert found["type_1_a"].min() > 0.4  # why help or harm is said from the procedure alone


def test_the_table_has_a_row_a_setting(monkeypatch, capsys):
    monkeypatch.setattr(coverage, "settings", lambda: [Setting(0.5, 0.0, 3, "small"), Setting(0.9, 0.025, 3, "small")])
    assert call(coverage.main, "--repeats=2")[0] == 0
    head, line, *rows = capsys.readouterr().out.splitlines()
    assert [row.split(" | ")[:4] for row in rows] == [["| small", "3", "50", "0"], ["| small", "3", "90", "2.5"]]
    assert {line.count("|"), *(row.count("|") for row in rows)} == {head.count("|")} == {13}
    assert error_of(call(coverage.main, "--repeats=0"), 2)[0] == "--repeats=0: give 1 or more"
