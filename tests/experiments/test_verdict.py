"""The verdict on a model: right numbers, and plain words where it is not better."""

import numpy as np
import pytest

from experiments.harness import verdict


def test_a_difference_is_paired_over_the_rows():
    alone = np.array([-3.0, -5.0, -4.0, -8.0])
    found = verdict.judge(alone, alone + np.array([1.0, 1.2, 0.8, 1.0]))
    assert found.independent == pytest.approx(5)
    assert found.better_by == pytest.approx(1)
    # Far below the spread of the rows themselves.
    assert found.standard_error == pytest.approx(np.sqrt(0.08 / 3) / 2)
    assert (
        found.is_better
        and "is better than independent columns by 1.00" in (found.lines()[0])
    )


@pytest.mark.parametrize("change", [[-1.0, -1.0], [0.1, -0.09], [np.nan, 1.0]])
def test_a_model_that_is_not_better_is_told_so(change):
    found = verdict.judge([-3.0, -4.0], np.array([-3.0, -4.0]) + np.array(change))
    assert not found.is_better
    assert "NOT better than independent columns" in found.lines()[0]
    assert found.as_dict()["is_better"] is False


def test_the_columns_that_latents_explain_least_come_first():
    columns = [
        verdict.ColumnGain("a", 2.0, 1.5, 9),
        verdict.ColumnGain("b", 3.0, 0.0, 9),
        verdict.ColumnGain("empty", None, None, 0),
    ]
    found = verdict.judge([-1.0, -2.0], [-1.0, -1.5], columns)
    assert [one.name for one in found.columns] == ["b", "a", "empty"]
    assert "b +0.00 of 3.00, a +1.50 of 2.00" in found.lines()[1]
