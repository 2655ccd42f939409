"""Runs whose answers are drawn at random, for what reads a run, and networks of drawn weights: none is trained."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
from answers import prediction

from pneumojax import classify
from pneumojax import config as configs
from pneumojax import results as resulting
from pneumojax import run as runs
from pneumojax import workdir as workdirs
from pneumojax.run import Run

CLASSES = ("NORMAL", "PNEUMONIA")
ENVIRONMENT = {
    "code": {"version": "0.1.0", "commit": "0123abc", "digest": "89ef"},
    "python": "3.13.1",
    "packages": {"jax": "0.12.0"},
    "devices": ["cpu", "cpu"],
}
PARTS = {"clean": ("test", "unseen", "inner"), "paper": ("test", "unseen", "test_real", "test_generated")}
TITLES = {"without_gan": "without GAN", "with_gan": "with GAN"}
STRENGTH = {"without_gan": 1.0, "with_gan": 1.5}  # of the evidence in a margin, against noise of 1


def variables_of(model, size: int, seed: int = 0) -> dict:
    """Variables of a network, drawn by numpy in He's deviation: `classify.init` takes seconds to compile."""
    rng = np.random.default_rng(seed)

    def drawn(path, leaf):
        if path[-1].key == "kernel":
            deviation = np.sqrt(2 / np.prod(leaf.shape[:-1]))
            return jnp.asarray(deviation * rng.standard_normal(leaf.shape, np.float32), leaf.dtype)
        return jnp.full(leaf.shape, float(path[-1].key in ("scale", "var")), leaf.dtype)

    shapes = jax.eval_shape(lambda: classify.fresh_variables(jax.random.key(0), model, size))
    return jax.tree_util.tree_map_with_path(drawn, shapes)


def answers_of(classes=CLASSES, trials=(0, 1, 2), parts=PARTS, images=40):
    """Two arms under each protocol, a network a trial; two images a patient."""
    found = []
    for protocol, of_protocol in parts.items():
        for trial in trials:
            for part in of_protocol:
                rng = np.random.default_rng([trial, *part.encode()])
                labels = np.arange(images) % len(classes)
                folder = "generated" if part == "test_generated" else f"train/{part}{trial}"
                names = [f"{folder}/{i}.png" for i in range(images)]
                patients = [f"{part}{trial} {i // 2 // len(classes)} {i % len(classes)}" for i in range(images)]
                noise = rng.normal(size=(images, len(classes)))
                for arm, strength in STRENGTH.items():
                    logits = noise + strength * np.eye(len(classes))[labels]
                    known = {"protocol": protocol, "arm": arm, "trial": trial, "part": part, "names": names}
                    found.append(prediction(labels, logits, patients, **known))
    return found


def run_of(folder, predictions, classes=CLASSES, titles=TITLES, **fields) -> Run:
    """A run of these predictions in a folder; `fields` of the config, 'section__field'."""
    config = configs.load("configs/default.py", ["--config.data.dir=."]).unlock()
    config.data.classes, config.trials = tuple(classes), tuple(sorted({p.trial for p in predictions})) or (0,)
    config.arms = tuple(dict.fromkeys(p.arm for p in predictions)) or ("without_gan",)
    config.protocols = tuple(dict.fromkeys(p.protocol for p in predictions)) or ("clean",)
    for field, value in fields.items():
        section, name = field.split("__")
        config[section][name] = value
    frozen = configs.frozen(config)
    arms: resulting.Arms = {}
    for p in predictions:
        own = arms.setdefault(p.protocol, {}).setdefault(
            p.arm, {"title": titles[p.arm], "against": None, "also": [], "overrides": {}, "trials": {}}
        )
        own["trials"][p.trial, 0, 0] = {"trial": p.trial, "train": 80}
        if (p.protocol, p.arm) == ("clean", "with_gan"):
            own["against"] = "without_gan"
    results = {
        "schema": 2,
        "model": "resnet18",
        "data": {
            "name": frozen.data.name,
            "images": 400,
            "patients": 200,
            "classes": list(classes),
            "class_counts": [400 // len(classes)] * len(classes),
            "fingerprint": "0",
        },
        "classifier": {
            **{"system": "finetune", "weights": "none", "mode": "full", "parameters": 9, "trained_parameters": 9},
            "new_parameters": [],
        },
        **resulting.scored(arms, predictions, frozen),
        "gan": {"name": "dcgan", "losses": {}, "drawn_from": {}, "collapsed": {}},
        "timings_s": {"data": 1.0, "gan": 6.0, "classifier": 3.0},
        "environment": ENVIRONMENT,
    }
    folder.mkdir(parents=True, exist_ok=True)
    workdirs.write_predictions(folder, predictions, classes)
    columns = runs.read_predictions(folder / "predictions.csv")
    return Run(folder, frozen, results, {"trials": []}, columns, {}, {})


def older(run: Run) -> Run:
    """The same run as it would have been before scores of contrasts, procedures, calibration and subgroups came."""
    one = run._replace(results=copy.deepcopy(run.results))
    for row in one.results["contrasts"]:
        for key in ("score", "procedure_why", "equivalent", "same_procedure"):
            del row[key]
        row["procedure"] = None
    for arm in (arm for arms in one.results["protocols"].values() for arm in arms.values()):
        del arm["collapsed"], arm["subgroups"]
        for summary in (arm, *(arm[part] for part in arm if isinstance(arm[part], dict) and "mean" in arm[part])):
            for key in ("procedure", "procedure_why", "calibration", "operating", "decision_curve"):
                summary.pop(key, None)
    return one
