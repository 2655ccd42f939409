"""A slice of the odd inputs of `python -m experiments.fuzz`: none is wrong, none silent, none crashes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.fuzz.__main__ import kinds, tried

pytest.importorskip("pydicom")
EXAMPLES = 12  # of each kind


@pytest.mark.parametrize("kind", kinds())
def test_odd_inputs_are_right_or_refused(kind):
    @settings(derandomize=True, max_examples=EXAMPLES, deadline=None)
    @given(st.integers(0, 2**32 - 1))
    def every(seed):
        outcome = tried(kind, 0, seed)
        assert outcome.result in ("right", "refused"), outcome

    every()
