"""From logits to numbers: scores, their intervals by patient bootstrap, and contrasts of arms."""

from pneumojax.evaluate.contrasts import contrasts
from pneumojax.evaluate.intervals import broken_down, score_all, score_arm, score_part, summarise
from pneumojax.evaluate.scores import Prediction, scores

__all__ = ["Prediction", "broken_down", "contrasts", "score_all", "score_arm", "score_part", "scores", "summarise"]
