"""From logits to numbers: scores, their intervals by patient and over trials, contrasts of arms, calibration.

Two estimands stand side by side (PAPER.md, section 12): (a) these networks and new patients, `interval` and `patients`;
(b) this procedure with a new training set, GAN and seed, `procedure`. Help or harm is said from (b) alone.
"""

from pneumojax.evaluate.contrasts import Terms, contrasts
from pneumojax.evaluate.intervals import Design
from pneumojax.evaluate.scores import Prediction, scores
from pneumojax.evaluate.subgroups import broken_down
from pneumojax.evaluate.summaries import score_all, score_arm, score_part

__all__ = [
    "Design",
    "Prediction",
    "Terms",
    "broken_down",
    "contrasts",
    "score_all",
    "score_arm",
    "score_part",
    "scores",
]
