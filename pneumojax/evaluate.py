"""From logits to numbers: confusion matrices, scores, intervals by patient bootstrap, and sign-flip tests."""

import itertools
from typing import NamedTuple

import numpy as np

from pneumojax.data import files
from pneumojax.protocols import REAL_TEST

LEVEL = 0.95  # of all intervals
DECLARED = ("clean", "unseen", "with_gan")  # the contrast that was chosen before any result: protocol, part, arm


class Prediction(NamedTuple):
    """What one classifier says of one part of the images."""

    protocol: str
    arm: str
    trial: int
    part: str  # test, unseen, test_real, test_generated, external/<set>; test/virus and the like are parts of them
    names: list[str]
    patients: list[str]  # a generated image is a patient of its own
    labels: np.ndarray  # int32 [n]
    logits: np.ndarray  # float32 [n, 2]
    train_images: int

    @property
    def margin(self) -> np.ndarray:
        """Evidence for pneumonia, [n]; positive where that is the prediction."""
        return self.logits[:, 1] - self.logits[:, 0]

    @property
    def cells(self) -> np.ndarray:
        """Each image's cell of the confusion matrix, 2 * true + predicted."""
        return 2 * self.labels + np.argmax(self.logits, 1)


def scores(confusion_matrix) -> dict[str, float]:
    """Scores of a confusion matrix `[true][predicted]`, classes NORMAL, PNEUMONIA: fractions, 0.0 for 0 / 0.

    `f1_macro` is the mean of the class F1s; `f1_paper` the harmonic mean of the two macro figures, which is what the
    paper's table 2 prints. That table's 'Precision' is `recall_macro` and its 'Recall' `precision_macro`.
    """
    return {name: float(value) for name, value in score_arrays(np.asarray(confusion_matrix, float)).items()}


def score_arrays(matrices: np.ndarray) -> dict[str, np.ndarray]:
    """`scores` of many matrices at once: [..., 2, 2] → {name: [...]}."""

    def ratio(a, b):
        return np.divide(a, b, out=np.zeros_like(a, dtype=float), where=b != 0)

    hits = np.diagonal(matrices, axis1=-2, axis2=-1)
    precision = ratio(hits, matrices.sum(-2))
    recall = ratio(hits, matrices.sum(-1))
    f1 = ratio(2 * hits, matrices.sum(-2) + matrices.sum(-1))
    precision_macro, recall_macro = precision.mean(-1), recall.mean(-1)
    return {
        "accuracy": ratio(hits.sum(-1), matrices.sum((-2, -1))),
        "precision_macro": precision_macro,
        "recall_macro": recall_macro,
        "f1_macro": f1.mean(-1),
        "f1_paper": ratio(2 * precision_macro * recall_macro, precision_macro + recall_macro),
        "precision_normal": precision[..., 0],
        "precision_pneumonia": precision[..., 1],
        "recall_normal": recall[..., 0],
        "recall_pneumonia": recall[..., 1],
    }


def auc(margin: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve, ties counted half, of images weighted by each row of `weights` [R, n]: [R]."""
    if len(margin) == 0:
        return np.zeros(len(weights))
    order = np.argsort(margin, kind="stable")
    starts = np.flatnonzero(np.diff(margin[order], prepend=-np.inf))
    positive = np.add.reduceat(weights[:, order] * labels[order], starts, axis=1)
    negative = np.add.reduceat(weights[:, order] * (1 - labels[order]), starts, axis=1)
    below = np.cumsum(negative, 1) - negative
    pairs = positive.sum(1) * negative.sum(1)
    wins = (positive * (below + negative / 2)).sum(1)
    return np.divide(wins, pairs, out=np.zeros(len(weights)), where=pairs != 0)


def weighted_scores(prediction: Prediction, weights: np.ndarray) -> dict[str, np.ndarray]:
    """All scores with images weighted by each row of `weights` [R, n]: {name: [R]}."""
    one_hot = np.eye(4)[prediction.cells]
    result = score_arrays((weights @ one_hot).reshape(-1, 2, 2))
    return result | {"auc": auc(prediction.margin, prediction.labels, weights)}


def resample_patients(predictions: list[Prediction], resamples: int, seed) -> list[np.ndarray]:
    """Weights of the images of each prediction under bootstrap draws of patients: float [resamples, n] each.

    A patient who is in several predictions is drawn for all of them alike, so that trials whose test images overlap
    are not taken for independent.
    """
    codes = np.unique([p for prediction in predictions for p in prediction.patients], return_inverse=True)[1]
    patients = codes.max(initial=-1) + 1
    draws = np.zeros((resamples, 0))
    if patients:
        draws = np.random.default_rng(seed).multinomial(patients, np.full(patients, 1 / patients), resamples)
    ends = np.cumsum([len(prediction.patients) for prediction in predictions])[:-1]
    return [draws[:, part].astype(float) for part in np.split(codes, ends)]


def interval(values: np.ndarray) -> list[float]:
    """Percentile interval of bootstrap values [R]."""
    tail = (1 - LEVEL) / 2
    return np.quantile(values, (tail, 1 - tail)).tolist()


def score_part(prediction: Prediction, resamples: int, seed) -> dict:
    """Count, confusion matrix, scores and intervals of one part: a PART of the contract."""
    matrix = np.bincount(prediction.cells, minlength=4).reshape(2, 2)
    point = weighted_scores(prediction, np.ones((1, len(prediction.labels))))
    (weights,) = resample_patients([prediction], resamples, seed)
    bootstrap = weighted_scores(prediction, weights)
    return {
        "images": len(prediction.labels),
        "confusion_matrix": matrix.tolist(),
        "scores": {name: float(value[0]) for name, value in point.items()},
        "interval": {name: interval(values) for name, values in bootstrap.items()},
    }


def summarise(predictions: list[Prediction], parts: list[dict], resamples: int, seed) -> dict:
    """Mean, standard deviation (ddof 1, 0.0 for one trial) and the mean's interval over trials."""
    weights = resample_patients(predictions, resamples, seed)
    bootstraps = [weighted_scores(p, w) for p, w in zip(predictions, weights, strict=True)]
    names = parts[0]["scores"]
    values = {name: np.array([part["scores"][name] for part in parts]) for name in names}
    return {
        "mean": {name: float(v.mean()) for name, v in values.items()},
        "std": {name: float(v.std(ddof=1)) if len(v) > 1 else 0.0 for name, v in values.items()},
        "interval": {name: interval(np.mean([b[name] for b in bootstraps], 0)) for name in names},
    }


def score_arm(predictions: list[Prediction], resamples: int, seed) -> dict:
    """All trials and parts of one arm: an ARM of the contract."""
    by_part: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        by_part.setdefault(prediction.part, []).append(prediction)
    scored = {part: [score_part(p, resamples, seed) for p in ps] for part, ps in by_part.items()}
    trials = []
    for index, prediction in enumerate(by_part["test"]):
        test = scored["test"][index]
        trials.append(
            {"trial": prediction.trial, "train": prediction.train_images, "test": test.pop("images")}
            | test
            | {part: rows[index] for part, rows in scored.items() if part != "test"}
        )
    summaries = {part: summarise(ps, scored[part], resamples, seed) for part, ps in by_part.items()}
    return {"trials": trials, **summaries.pop("test"), **summaries}


def broken_down(predictions: list[Prediction]) -> list[Prediction]:
    """Adds parts of the parts of real images: by published folder, `unseen/train`, and by subtype, `unseen/virus`.

    A subtype's images are all PNEUMONIA: its accuracy is its recall. What some trial has no image of is left out.
    """
    result = list(predictions)
    for protocol, arm, part in dict.fromkeys((p.protocol, p.arm, p.part) for p in predictions):
        if part not in ("test", "unseen"):
            continue
        own = [p for p in predictions if (p.protocol, p.arm, p.part) == (protocol, arm, part)]
        for told_by, kinds in ((files.part_of, files.PARTS[1:]), (files.subtype, ("bacteria", "virus"))):
            told = [[told_by(name) for name in p.names] for p in own]
            found = [kind for kind in kinds if all(kind in names for names in told)]
            if len(found) > 1:
                result += [
                    restricted(p, f"{part}/{kind}", np.array([k == kind for k in names]))
                    for kind in found
                    for p, names in zip(own, told, strict=True)
                ]
    return result


def restricted(prediction: Prediction, part: str, chosen: np.ndarray) -> Prediction:
    """A part of a part: the images of `chosen`, bool [n]."""
    rows = np.flatnonzero(chosen)
    return prediction._replace(
        part=part,
        names=[prediction.names[row] for row in rows],
        patients=[prediction.patients[row] for row in rows],
        labels=prediction.labels[rows],
        logits=prediction.logits[rows],
    )


def score_all(predictions: list[Prediction], resamples: int, seed) -> dict:
    """{protocol: {arm: ARM}} of all predictions of a study."""
    protocols: dict[str, dict] = {}
    for protocol, arm in dict.fromkeys((p.protocol, p.arm) for p in predictions):
        own = [p for p in predictions if (p.protocol, p.arm) == (protocol, arm)]
        protocols.setdefault(protocol, {})[arm] = score_arm(own, resamples, seed)
    return protocols


def sign_flip(differences: np.ndarray, resamples: int, seed) -> float:
    """Two-sided p-value of a sum of per-patient differences [P] under random flips of their signs."""
    differences = differences[differences != 0]
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), (resamples, len(differences)))
    extreme = np.abs(signs @ differences) >= np.abs(differences.sum()) - 1e-12
    return float((1 + extreme.sum()) / (1 + resamples))


def contrast(treated: list[Prediction], control: list[Prediction], resamples: int, seed) -> dict:
    """Difference of mean accuracy over trials between two arms on the same images, by patient.

    A patient's difference is summed over trials before signs are flipped and patients are drawn, since the unseen
    images of trials overlap.
    """
    by_patient: dict[str, float] = {}
    for a, b in zip(treated, control, strict=True):
        right = [(p.cells % 2 == p.labels).astype(float) for p in (a, b)]
        for patient, gain in zip(a.patients, right[0] - right[1], strict=True):
            by_patient[patient] = by_patient.get(patient, 0.0) + gain / (len(a.labels) * len(treated))
    pairs = list(zip(treated, control, strict=True))
    weights = resample_patients(control, resamples, seed)
    draws = [
        weighted_scores(a, w)["accuracy"] - weighted_scores(b, w)["accuracy"]
        for (a, b), w in zip(pairs, weights, strict=True)
    ]
    differences = np.array(list(by_patient.values()))
    return {
        "score": "accuracy",
        "difference": float(differences.sum()),
        "interval": interval(np.mean(draws, 0)),
        "p_value": sign_flip(differences, resamples, seed),
    }


def contrasts(predictions: list[Prediction], resamples: int, seed) -> list[dict]:
    """Arms with GAN against the one without, on the same real images; one of them was declared beforehand.

    `p_holm` corrects the others by Holm's method. The arms of `paper` have different test sets and are not compared.
    """
    result = []
    for protocol, part, arm in itertools.product(REAL_TEST, ("unseen", "test"), ("with_gan", "with_gan_epochs")):
        sides = [
            [p for p in predictions if (p.protocol, p.arm, p.part) == (protocol, name, part) and p.names]
            for name in (arm, "without_gan")
        ]
        if all(sides):
            names = {"protocol": protocol, "part": part, "arms": [arm, "without_gan"]}
            result.append(names | contrast(*sides, resamples, seed))
    declared = [row for row in result if (row["protocol"], row["part"], row["arms"][0]) == DECLARED]
    others = sorted((row for row in result if row not in declared), key=lambda row: row["p_value"])
    running = 0.0
    for rank, row in enumerate(others):
        running = max(running, min(1.0, row["p_value"] * (len(others) - rank)))
        row["p_holm"] = running
    for row in declared:
        row["declared"] = True
    return result
