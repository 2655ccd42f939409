"""Odd but valid inputs by a seeded generator, against independent references: `python -m experiments.fuzz`."""

from typing import NamedTuple


class Outcome(NamedTuple):
    """What came of one case."""

    kind: str  # of the input, a row of the table, e.g. 'weights: prefix'
    result: str  # right, wrong, silent, or refused: one clear error where the reference or a rule has one too
    detail: str = ""  # what was made and what differs, for 'wrong' and 'silent'
