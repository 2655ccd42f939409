"""Parts, trials and arms scored, with intervals by bootstrap of patients."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.sparse import csr_array

from pneumojax.evaluate.scores import Prediction, auc, matrix_scores

LEVEL = 0.95  # of all intervals
BLOCK = 2**22  # numbers held at a time for a block of resamples: 32 MB an array


def blocks(count: int, width: int) -> Iterator[int]:
    """`count` rows of `width` numbers in blocks of bounded memory: the rows of each."""
    rows = max(1, BLOCK // max(1, width))
    return (min(rows, count - first) for first in range(0, count, rows))


def patient_codes(predictions: Sequence[Prediction]) -> list[np.ndarray]:
    """A number for the patient of each image, the same in all predictions: int [n] each."""
    index = {name: i for i, name in enumerate(sorted({name for p in predictions for name in p.patients}))}
    return [np.array([index[name] for name in p.patients], int) for p in predictions]


def resample_patients(codes: Sequence[np.ndarray], cells: Sequence[np.ndarray], width: int, resamples: int, seed):
    """Counts of images in each of `width` cells as they are, then under bootstrap draws of patients.

    A patient who is in several predictions is drawn for all of them alike, so that trials whose test images overlap
    are not taken for independent. No array has a number for each image and resample.

    Yields: weights of patients [r, P] and counts [T, width, r], one row in the first block, `resamples` in the others.
    """
    patients = max(1, 1 + max(own.max(initial=-1) for own in codes))
    rows = np.concatenate([t * width + own for t, own in enumerate(cells)])
    by_patient = csr_array((np.ones(len(rows)), (rows, np.concatenate(codes))), (len(cells) * width, patients))
    rng = np.random.default_rng(seed)
    chances = np.full(patients, 1 / patients)
    draws = (rng.multinomial(patients, chances, rows) for rows in blocks(resamples, max(patients, *map(len, codes))))
    for weights in itertools.chain([np.ones((1, patients))], draws):
        yield weights, (by_patient @ weights.T).reshape(len(cells), width, -1)


def bootstrap(predictions: Sequence[Prediction], classes, resamples: int, seed) -> dict[str, np.ndarray]:
    """Scores of each prediction as they are and under each draw of patients: {name: [T, 1 + R]}, NaN if undefined."""
    size, cells, codes = len(classes), [p.cells for p in predictions], patient_codes(predictions)
    each = list(zip(predictions, codes, strict=True))
    areas = [[auc(m, p.labels == k, columns) for k, m in p.margins.items()] for p, columns in each]
    result = []
    for weights, counts in resample_patients(codes, cells, size * size, resamples, seed):
        area = np.array([[of(weights) for of in own] for own in areas])  # [T, 1 or K, r]
        named = {f"auc_{name.lower()}": area[:, k] for k, name in enumerate(classes)} if size > 2 else {}
        matrices = np.moveaxis(counts.reshape(len(cells), size, size, -1), 3, 1)
        result.append(matrix_scores(matrices, classes, np.nan) | {"auc": area.mean(1)} | named)
    return {name: np.concatenate([block[name] for block in result], 1) for name in result[0]}


def number(value) -> float | None:
    """A score as JSON has it: None where it is undefined."""
    return None if np.isnan(value) else float(value)


def interval(values: np.ndarray) -> list[float] | None:
    """Percentile interval of bootstrap values [R]; those that are undefined are left out, None where all are."""
    values, tail = values[~np.isnan(values)], (1 - LEVEL) / 2
    return np.quantile(values, (tail, 1 - tail)).tolist() if len(values) else None


def score_part(prediction: Prediction, classes, resamples: int, seed) -> dict:
    """Count, confusion matrix, scores and intervals of one part: a PART of the contract.

    A score is None where a class that it needs has no image. `auc` is that of class 1 against class 0, or with more
    classes the mean of `auc_<class>`, each against the rest.
    """
    size = len(classes)
    values = bootstrap([prediction], classes, resamples, seed)
    return {
        "images": len(prediction.labels),
        "confusion_matrix": np.bincount(prediction.cells, minlength=size**2).reshape(size, size).tolist(),
        "scores": {name: number(v[0, 0]) for name, v in values.items()},
        "interval": {name: interval(v[0, 1:]) for name, v in values.items()},
    }


def summarise(predictions: Sequence[Prediction], classes, resamples: int, seed) -> dict:
    """Mean, standard deviation (ddof 1, 0.0 for one trial) and the mean's interval over trials.

    A score that is undefined in any trial is None in all three.
    """
    values = bootstrap(predictions, classes, resamples, seed)
    return {
        "mean": {name: number(v[:, 0].mean()) for name, v in values.items()},
        "std": {name: number(v[:, 0].std(ddof=min(1, len(v) - 1))) for name, v in values.items()},
        "interval": {name: interval(v[:, 1:].mean(0)) for name, v in values.items()},
    }


def score_arm(predictions: Sequence[Prediction], classes, resamples: int, seed) -> dict:
    """All trials and parts of one arm: an ARM of the contract, but for what only its plan tells.

    Each pair of seeds is an entry of its own, which names them if any is not 0. Parts without images are left out.
    """
    predictions = [p for p in predictions if p.part == "test" or len(p.names)]
    seeds = ("gan_seed", "classifier_seed") if any(p.gan_seed or p.classifier_seed for p in predictions) else ()
    trials: dict[tuple, dict] = {}
    by_part: dict[str, list[Prediction]] = {}
    for p in predictions:
        entry = {field: getattr(p, field) for field in ("trial", *seeds)}
        entry = trials.setdefault(tuple(entry.values()), entry)
        part = score_part(p, classes, resamples, seed)
        entry |= {"test": part.pop("images")} | part if p.part == "test" else {p.part: part}
        by_part.setdefault(p.part, []).append(p)
    summaries = {part: summarise(ps, classes, resamples, seed) for part, ps in by_part.items()}
    return {"trials": list(trials.values()), **summaries.pop("test"), **summaries}


def score_all(predictions: Sequence[Prediction], classes, resamples: int, seed) -> dict:
    """{protocol: {arm: ARM}} of all predictions of a study."""
    protocols: dict[str, dict] = {}
    for protocol, arm in dict.fromkeys((p.protocol, p.arm) for p in predictions):
        own = [p for p in predictions if (p.protocol, p.arm) == (protocol, arm)]
        protocols.setdefault(protocol, {})[arm] = score_arm(own, classes, resamples, seed)
    return protocols


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
