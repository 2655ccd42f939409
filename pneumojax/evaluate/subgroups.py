"""Parts of the parts: by published folder and by subtype, and their differences."""

import itertools
from collections.abc import Mapping, Sequence

from pneumojax.evaluate.influence import Part, difference_of, selected
from pneumojax.evaluate.intervals import Design, differing
from pneumojax.evaluate.scores import Prediction


def broken_down(predictions: Sequence[Prediction]) -> list[Prediction]:
    """Adds parts of the parts of real images: by published folder, `unseen/train`, and by subtype, `unseen/virus`.

    A subtype's images are all of one class: its accuracy is its recall. What some trial has no image of is left out.
    """
    result = list(predictions)
    for protocol, arm, part in dict.fromkeys((p.protocol, p.arm, p.part) for p in predictions):
        if part not in ("test", "unseen"):
            continue
        own = [p for p in predictions if (p.protocol, p.arm, p.part) == (protocol, arm, part)]
        for column in ("parts", "subtypes"):
            kinds = set.intersection(*(set(getattr(p, column)) for p in own)) - {""}
            if len(kinds) > 1:
                ordered = sorted(kinds, key=lambda kind: (kind == "test", kind))  # train, val, test
                result += [restricted(p, column, kind) for kind in ordered for p in own]
    return result


def restricted(prediction: Prediction, column: str, kind: str) -> Prediction:
    """A part of a part: the images that are of a kind."""
    rows = [row for row, own in enumerate(getattr(prediction, column)) if own == kind]
    columns = ("names", "patients", "parts", "subtypes")
    chosen = {name: [getattr(prediction, name)[row] for row in rows] for name in columns}
    chosen |= {name: getattr(prediction, name)[rows] for name in ("labels", "logits")}
    return prediction._replace(part=f"{prediction.part}/{kind}", **chosen)


def subgroups(by_part: Mapping[str, Sequence[tuple[Prediction, Part]]], classes, design: Design) -> list[dict]:
    """Differences of two folders or two subtypes of an arm's `test` or `unseen`, the later less the earlier.

    Returns: [{"of": [part, part], "score", "difference", "interval", "procedure", "procedure_why"}…]. Subtypes of one
    class are compared by its recall, all else by accuracy and AUC.
    """
    found = []
    for column in ("parts", "subtypes"):
        for whole in ("test", "unseen"):
            kinds = [name for name, own in by_part.items() if name.startswith(f"{whole}/") and is_of(own[0][0], column)]
            for earlier, later in itertools.combinations(kinds, 2):
                labels = {int(label) for name in (earlier, later) for p, _ in by_part[name] for label in p.labels}
                names = ("accuracy", "auc") if len(labels) > 1 else (f"recall_{classes[min(labels)].lower()}",)
                sides = [[selected(part, names) for _, part in by_part[name]] for name in (later, earlier)]
                trials = tuple([p.trial for p, _ in by_part[name]] for name in (later, earlier))
                for row in differing(difference_of(*sides, trials, classes), design):
                    found.append({"of": [later, earlier], **row})
    return found


def is_of(prediction: Prediction, column: str) -> bool:
    """Whether a part of a part was made by its published folder, or by its subtype."""
    return set(getattr(prediction, column)) == {prediction.part.rpartition("/")[2]}
