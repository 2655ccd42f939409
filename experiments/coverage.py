"""Whether 95% intervals hold 95% of the time, and tests at 5% reject 5%: by simulation.

    python -m experiments.coverage --repeats=1000

Patients in clusters as large as the real set's; two arms of the same procedure, whose networks are better or worse by
run. A score of an image is a sum of what its patient, the image and the network bring, so that arms and trials agree on
images as networks do. Accuracy and AUC of a run are drawn from a Beta of the mean and deviation of the row. Prints
Markdown: per row the share of intervals that hold the truth, (a) of these networks and (b) of the procedure, and the
share of contrasts between the arms, which differ in nothing, with p < 0.05.
"""

import itertools
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array
from scipy.special import ndtri

from pneumojax import cli
from pneumojax.errors import BadInput
from pneumojax.evaluate.contrasts import SCORES, sign_flip, uncentred
from pneumojax.evaluate.influence import Part, difference_of, mean_of
from pneumojax.evaluate.intervals import INDEPENDENT, of_patients, of_procedure, procedure_of_difference
from pneumojax.evaluate.ranks import auc

CLASSES = ("NORMAL", "PNEUMONIA")
# of the real set, by class: patients who have so many images; the larger test set is a fifth of its images
SIZES = (
    {1: 1361, 2: 14, 3: 58, 4: 3},
    {1: 558, 2: 590, 3: 206, 4: 104, 5: 55, 6: 53, 7: 37, 8: 25, 9: 16, 10: 6, 11: 6, 12: 5, 14: 3, 19: 2},
)
LARGEST = 30  # images of one patient, who is in the first trial's test set
SHARES = (0.3, 0.4, 0.3)  # of a score's variance: the patient's, the image's, the network's
LEVELS, DEVIATIONS, TRIALS = (0.5, 0.9, 0.997), (0.0, 0.025, 0.045), (3, 6)
SETS = {"small": (47, 78, False), "large": (317, 775, True)}  # images of each class; whether trials share them
EDGE = 1e-9  # of a run's score, from 0 and 1
FLIPS = 999


class Setting(NamedTuple):
    """A row of the table."""

    level: float  # accuracy and AUC of the procedure
    deviation: float  # of runs
    trials: int
    test: str  # small: 125 images of other patients each trial; large: 1,092, the same ones each trial


def patients_of(test: str, largest: bool, rng) -> tuple[np.ndarray, np.ndarray]:
    """Of a test set's images, with that patient or without: labels, int [n], and patients, int [n]."""
    labels, patients = [], []
    for label, known in enumerate(SIZES):
        sizes = rng.permutation(np.repeat([*known], [*known.values()]))
        if label == 1 and largest:
            sizes = np.concatenate([[LARGEST], sizes])
        patients.append(np.repeat(np.arange(len(sizes)) + 10_000 * label, sizes)[: SETS[test][label]])
        labels.append(np.full(len(patients[-1]), label))
    return np.concatenate(labels), np.concatenate(patients)


def runs_of(level: float, deviation: float, shape, rng) -> np.ndarray:
    """Scores of runs, of so large a deviation about the level."""
    if not deviation:
        return np.full(shape, level)
    spread = level * (1 - level) / deviation**2 - 1
    return np.clip(rng.beta(level * spread, (1 - level) * spread, shape), EDGE, 1 - EDGE)


class Images(NamedTuple):
    """A test set, and what all networks have in common on it."""

    labels: np.ndarray  # int [n]
    names: list  # of the patients
    of_patients: csr_array  # [P, n], which images are whose
    counts: np.ndarray  # [P, 5], images as a `Part` has them; of those taken for a class there is no need
    common: list[np.ndarray]  # by score [n]


def images_of(setting: Setting, trial: int, rng) -> Images:
    """Images of one trial; the first has the patient of the most images."""
    labels, patients = patients_of(setting.test, trial == 0, rng)
    names, codes = np.unique(patients + 100_000 * trial, return_inverse=True)
    of_patients = csr_array((np.ones(len(codes)), (codes, np.arange(len(codes)))))
    counts = of_patients @ np.column_stack([np.ones(len(codes)), labels == 0, labels == 1, labels == 0, labels == 1])
    scale = np.sqrt(SHARES)
    common = [scale[0] * rng.normal(size=len(names))[codes] + scale[1] * rng.normal(size=len(codes)) for _ in SCORES]
    return Images(labels, names.tolist(), of_patients, counts, common)


def part_of(images: Images, truth: np.ndarray, rng) -> Part:
    """The part of a network whose accuracy and AUC on all images there could be are `truth`."""
    seen = [own + np.sqrt(SHARES[2]) * rng.normal(size=len(own)) for own in images.common]
    right = seen[0] < ndtri(truth[0])
    area, influence = auc(seen[1] + images.labels * np.sqrt(2) * ndtri(truth[1]), images.labels == 1)
    influence = np.column_stack([(right - right.mean()) / len(right), influence])
    values = np.array([right.mean(), area])
    return Part(SCORES, values, images.names, images.of_patients @ influence, images.counts)


def simulated(setting: Setting, rng) -> tuple[list[list[Part]], np.ndarray]:
    """Both arms' parts, a trial each, and the accuracy and AUC of their networks: [2 arms, T, 2]."""
    truth = runs_of(setting.level, setting.deviation, (2, setting.trials, 2), rng)
    arms: list[list[Part]] = [[], []]
    for trial in range(setting.trials):
        if trial == 0 or not SETS[setting.test][2]:
            images = images_of(setting, trial, rng)
        for arm in (0, 1):
            arms[arm].append(part_of(images, truth[arm, trial], rng))
    return arms, truth


def measured(setting: Setting, repeats: int, seed: int) -> dict[str, np.ndarray]:
    """Of accuracy and AUC, [2] each: coverage `a` and `b`, and `type_1_a`, `type_1_b`; `none`: intervals undefined."""
    rng = np.random.default_rng(seed)
    found = {name: np.full((repeats, 2), np.nan) for name in ("a", "b", "type_1_a", "type_1_b")}
    trials = list(range(setting.trials))
    for turn in range(repeats):
        arms, truth = simulated(setting, rng)
        mean = mean_of(arms[0], trials, CLASSES)
        whole = difference_of(*arms, (trials, trials), CLASSES)
        sides = [[uncentred(part, 2) for part in arm] for arm in arms]
        flipped = difference_of(*sides, (trials, trials), CLASSES).influence
        procedure, own = of_procedure(mean, INDEPENDENT)["procedure"], of_patients(mean)
        for i, name in enumerate(SCORES):
            held = (("a", own[name], truth[0, :, i].mean()), ("b", procedure[name]["interval"], setting.level))
            for column, interval, true in held:
                if interval:
                    found[column][turn, i] = interval[0] <= true <= interval[1]
            found["type_1_a"][turn, i] = sign_flip(flipped[:, i], FLIPS, turn) < 0.05
            p = procedure_of_difference(whole, i, INDEPENDENT)["procedure"]["p_value"]
            found["type_1_b"][turn, i] = p is not None and p < 0.05
    none = np.isnan(found["a"]).mean(0)
    return {name: np.nanmean(own, 0) for name, own in found.items()} | {"none": none}


def settings() -> list[Setting]:
    """The rows of the table."""
    return [Setting(*own, test) for test in SETS for own in itertools.product(LEVELS, DEVIATIONS, TRIALS)]


def main(arguments=None) -> None:
    """Simulates patients, networks and runs, and prints how often intervals and tests hold."""
    parser = cli.Parser(prog="python -m experiments.coverage", description=main.__doc__)
    parser.add_argument("--repeats", type=int, default=1000, help="studies a row")
    parser.add_argument("--seed", type=int, default=0)
    with cli.exit_codes():
        options = parser.parse_args(arguments)
        if options.repeats < 1:
            raise BadInput(f"--repeats={options.repeats}: give 1 or more")
        heads = [*("test set", "trials", "score near", "runs ± points")]
        heads += [
            f"{what}, {name}" for what in ("(a) holds", "(b) holds", "(a) p < 0.05", "(b) p < 0.05") for name in SCORES
        ]
        cli.show_table(heads, [])
        for setting in settings():
            found = measured(setting, options.repeats, options.seed)
            lead = [setting.test, str(setting.trials), f"{100 * setting.level:g}", f"{100 * setting.deviation:g}"]
            cells = [f"{100 * value:.1f}" for name in ("a", "b", "type_1_a", "type_1_b") for value in found[name]]
            cli.show(f"| {' | '.join([*lead, *cells])} |")


if __name__ == "__main__":
    main()
