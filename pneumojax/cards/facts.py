"""What cards say of a finished run: its data, its training, the scores of one of its networks."""

from collections.abc import Sequence
from pathlib import PurePath

from pneumojax import answering, results
from pneumojax.cards import Trusted, escaped
from pneumojax.config import with_overrides
from pneumojax.data import levels
from pneumojax.report import PROTOCOLS, headline, tables
from pneumojax.run import Run
from pneumojax.stage import Stage

NO_DIAGNOSIS = Trusted("For research alone. It is no medical device, and nothing that it says is a diagnosis.")
PHANTOM, PUBLISHED, OTHER = "phantom", "published", "other"
OF_THE_SET = {  # what is known of images by where they are from, and of no others
    PHANTOM: {
        "source": "drawn by a program (pneumojax/data/phantom.py); none is an X-ray",
        "who": "nobody: pictures of no patient",
        "design": "neither: the pictures were drawn",
        "acquisition": "none were: the pictures were drawn",
        "reference": "the program that drew a picture knows its class",
        "annotators": "a program",
        "deidentified": "there is nobody to be identified",
        "demographics": "there are none",
        "availability": "the program draws the same pictures anywhere",
        "limits": "The pictures are phantoms: no number of this run says anything of X-rays.",
    },
    PUBLISHED: {
        "source": "chest X-rays of Labeled Optical Coherence Tomography (OCT) and Chest X-Ray Images for "
        "Classification, Kermany, Zhang and Goldbaum 2018, DOI 10.17632/rscbjbr9sj",
        "selected": "before it was published, images of low quality were removed",
        "who": "children of one to five years, of one hospital (Guangzhou Women and Children's Medical Center)",
        "design": "retrospective",
        "acquisition": "anterior-posterior chest X-rays of routine care; devices and settings are not known",
        "reference": "the class of the published folder; how the readers came to it is in its publication",
        "annotators": "two physicians, and a third for the published test folder, as published",
        "demographics": "children of one to five years; age and sex of each are not known",
        "licence": "CC BY 4.0",
        "availability": "published under the DOI, CC BY 4.0",
        "limits": "Its patients are children of one hospital: what the network says of others is not known.",
    },
    OTHER: {"limits": "Where its images are from is not known: what the network says of others is not known either."},
}


def kind(run: Run) -> str:
    """Where the images are from: drawn, the published set, also by the names of all files, or anything else."""
    if headline.is_phantom(run):
        return PHANTOM
    return PUBLISHED if answering.is_published(run) else OTHER


def of_set(run: Run) -> dict[str, str]:
    """What is known of its images beside what the run counts."""
    known = dict(OF_THE_SET[kind(run)])
    if kind(run) == PUBLISHED and not answering.is_prepared(run):
        known["source"] += "; told by the names of its files alone"
    return known


def environment(run: Run) -> dict:
    """Code and versions: {"version", "commit", "digest", "packages", "python", "devices"}, None where not known."""
    known = run.results["environment"]
    code = known.get("code", {})
    return {name: code.get(name) for name in ("version", "commit", "digest")} | {
        "packages": listed(f"{name} {version}" for name, version in known.get("packages", {}).items()),
        "python": known.get("python"),
        "devices": listed(dict.fromkeys(known.get("devices", ()))),
    }


def listed(texts) -> str | None:
    """'a, b'; None for none."""
    return ", ".join(texts) or None


def counted(run: Run) -> list[tuple[str, int]]:
    """Images of each class."""
    data = run.results["data"]
    return list(zip(data["classes"], data.get("class_counts", ()), strict=False))


def left_out(run: Run) -> str | None:
    """What images were left out, and why; None where the run does not tell."""
    data = run.results["data"]
    if "left_out" not in data and "skipped" not in data:
        return None
    parts = [f"{count} ({why})" for why, count in data.get("left_out", {}).items()]
    parts += [f"{len(data['skipped'])} (unreadable)"] if data.get("skipped") else []
    return listed(parts) or "none"


def gray(run: Run) -> str:
    """How stored values became gray."""
    return levels.words(run.results["data"].get("gray", {})) or "as the files say"


def fit(run: Run) -> str:
    """How a picture becomes a square."""
    return {"stretch": "stretched to a square", "pad": "padded with black to a square"}.get(
        run.config.data.fit, run.config.data.fit
    )


def trial_of(run: Run, stage: Stage) -> dict:
    """The TRIAL of a classifier."""
    wanted = stage.trial, stage.gan_seed, stage.classifier_seed
    return next(one for one in run.arm(stage)["trials"] if results.replicate(one) == wanted)


def columns(run: Run) -> list[str]:
    """The scores that cards show."""
    return ["accuracy", "auc", *(f"recall_{name.lower()}" for name in run.config.data.classes)]


def headings(run: Run) -> list[str]:
    """What they are called."""
    return [tables.heading(one, run.config.data.classes) for one in columns(run)]


def parts_of(trial: dict) -> dict[str, dict]:
    """The parts that a network was scored on, test first; those of folders and subtypes left out, and `inner`."""
    parts = {"test": {"images": trial["test"], **trial}}
    parts |= {name: one for name, one in trial.items() if isinstance(one, dict) and "scores" in one}
    return {name: one for name, one in parts.items() if name in tables.PARTS or name.startswith("external/")}


def own_rows(run: Run, stage: Stage, where: str = "") -> list[list[str]]:
    """A row a part: what it is, images, and each score in percent with its 95% interval by patients.

    `where`: 'internal' for parts of the run's own images alone, 'external' for those of other sets.
    """
    rows = []
    for name, part in parts_of(trial_of(run, stage)).items():
        if where and (where == "external") != name.startswith("external/"):
            continue
        cells = [cell(part, score) for score in columns(run)]
        rows.append([tables.PARTS.get(name, name), str(part["images"]), *cells])
    return rows


def cell(part: dict, score: str) -> str:
    """'88.8 [86.0, 91.5]'."""
    return f"{tables.percent(part['scores'].get(score))} {tables.between(part['interval'].get(score))}".strip()


def arm_rows(run: Run, stage: Stage) -> list[list[str]]:
    """A row a part: what the arm comes to over trials, with both intervals."""
    alone = {stage.protocol: {stage.arm: run.arm(stage)}}
    of_arm = run._replace(results=run.results | {"protocols": alone})
    parts = [*tables.PARTS, *tables.more_parts(of_arm, external=True)]
    found = tables.table(of_arm, columns(run), parts)["rows"]
    return [[*row["lead"][2:4], *(" ".join(filter(None, one)) for one in row["cells"])] for row in found]


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Trusted:
    """A Markdown table, whose cells are escaped."""
    lines = [heads, ["---"] * len(heads), *rows]
    shown = [[one if number == 1 else escaped(one) for one in line] for number, line in enumerate(lines)]
    return Trusted("\n".join(f"| {' | '.join(line)} |" for line in shown))


def training(run: Run, stage: Stage) -> dict:
    """How a classifier was fitted, in words; a system that is no network says less."""
    facts = run.results["classifier"]
    config = with_overrides(run.config.classifier, run.arm(stage)["overrides"])
    known = {"system": facts["system"], "network": run.results["model"] if "weights" in facts else None}
    if "weights" in facts:
        begun = {"none": "from scratch", "torchvision": "from torchvision's ImageNet weights"}
        known["begun"] = begun.get(
            facts["weights"], f"from weights given as {file_of(run)}, digest {(facts['weights_digest'] or '')[:12]}…"
        )
        anew = ", ".join(dict.fromkeys(name.rpartition(".")[0] for name in facts["new_parameters"]))
        known["begun"] += f"; {anew} started anew" if anew else ""
        known["parameters"] = (
            f"{facts['parameters']:,} parameters, of which {facts['trained_parameters']:,} were trained"
        )
        known["mode"] = facts["mode"]
    if facts["system"] == "finetune":
        momentum = f", momentum {config.momentum:g}" if config.optimizer == "sgd" else ""
        new = f", of new layers {config.new_layer_rate:g} times that" if facts["weights"] != "none" else ""
        warmup = f", the first {100 * config.warmup:g}% of the steps rising" if config.warmup else ""
        known["recipe"] = (
            f"{config.optimizer}{momentum}, learning rate {config.learning_rate:g}{new} ({config.schedule}{warmup}), "
            f"batches of {config.batch_size}, {steps_of(run, stage)}, weight decay {config.weight_decay:g}, "
            f"in {run.config.model.dtype}"
        )
        known["augmentation"] = augmentation(config)
        known["selection"] = "the last state; none was chosen by its scores"
    if facts["system"] == "frozen_probe":
        penalties = run.config.system.penalties
        known["recipe"] = (
            "logistic regression with an L2 penalty, to convergence (L-BFGS), on the means over the pixels of what "
            f"{facts['stage']} makes, standardised by the images trained on; the network is frozen"
        )
        known["augmentation"] = "none but what the images of its arm are"
        several = "the penalty of the lowest log loss on patients of the training part who were kept from it, of {}"
        known["selection"] = (several if len(penalties) > 1 else "none: one penalty, {}").format(
            ", ".join(f"{one:g}" for one in penalties)
        )
    return known


def file_of(run: Run) -> str:
    """What the weights that it began with are called, without where they lay."""
    return PurePath(run.config.model.weights).name or "a folder"


def steps_of(run: Run, stage: Stage) -> str:
    """For how many steps it was trained: its curves tell, since an arm can take more than its config says."""
    steps = [step for (one, _), curve in run.curves.items() if one == stage for step in curve]
    return f"{max(steps)} steps" if steps else "steps not known"


def augmentation(config) -> str:
    """The classical augmentation, in words."""
    fields = ("flip", "shift", "rotation", "zoom", "shear")
    return listed(f"{name} {config[name]}" for name in fields if config[name]) or "none"


def protocol(stage: Stage) -> str | None:
    """What a protocol does."""
    return PROTOCOLS.get(stage.protocol)
