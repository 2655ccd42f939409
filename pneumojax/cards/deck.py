"""The cards of an exported folder: README.md, DATA.md and, of a classifier, CLAIM.md."""

from pneumojax import answering
from pneumojax.cards import Trusted, claim, facts, rendered
from pneumojax.report import headline, tables
from pneumojax.run import Run

QUALITY = ("kid", "fid", "precision", "recall", "density", "coverage", "copy_rate", "tell_auc")


def of(run: Run, subject, config: dict, loading: tuple[str, ...], why: str) -> dict[str, str]:
    """The cards by file name.

    Args:
      run: a finished one.
      subject: what is exported of it, an `export.Subject`.
      config: what its config.json says.
      loading: lines of Python that load it in torchvision, none where nothing does.
      why: nothing does.
    """
    stage = subject.stage
    known = facts.of_set(run)
    common = {
        "name": stage.name,
        "config": config,
        "no_diagnosis": facts.NO_DIAGNOSIS,
        "trained_on": Trusted(f"Trained on {answering.trained_on(run)}."),
        "classes": ", ".join(config["id2label"].values()),
        "protocol": stage.protocol,
        "protocol_words": facts.protocol(stage),
        "environment": facts.environment(run),
        "limits": Trusted(known["limits"]),
        "inputs": Trusted(", ".join(f"`{name}`, {shape(one)}" for name, one in subject.inputs.items())),
        "inside": Trusted("" if stage.gan else ", which it normalises itself"),
        "output": Trusted(f"`{subject.output}`, float32"),
        "fit": facts.fit(run),
        "gray": facts.gray(run),
    }
    cards = {"DATA.md": data(run, subject, common | {"set": known, "size": run.config.model.image_size})}
    if stage.gan:
        return {"README.md": generator(run, subject, common), **cards}
    items = [
        [str(number), section, item, answer or "not known"]
        for number, section, item, answer in claim.checklist(run, stage)
    ]
    table = facts.table(["item", "section", "what is asked for", "what the run knows"], items)
    cards["CLAIM.md"] = rendered("claim.md.j2", name=stage.name, items=table)
    return {"README.md": classifier(run, subject, common, loading, why), **cards}


def shape(one) -> str:
    """'uint8 [N, 64, 64]'."""
    return f"{one.dtype} [{', '.join(map(str, ('N', *one.shape)))}]"


def classifier(run: Run, subject, common: dict, loading: tuple[str, ...], why: str) -> str:
    """README.md of a classifier."""
    stage = subject.stage
    heads = facts.headings(run)
    return rendered(
        "classifier.md.j2",
        **common,
        size=run.config.model.image_size,
        training=facts.training(run, stage),
        arm=run.arm(stage),
        trial=facts.trial_of(run, stage),
        seeds=f"{stage.trial}, {stage.gan_seed}, {stage.classifier_seed}",
        said=list(map(Trusted, subject.said)),
        loading=Trusted("\n".join(loading)),
        why=why,
        back=not common["config"]["fields"],
        allowed=Trusted(
            f' --config.model.allow_missing="{tuple(lacks)}"' if (lacks := common["config"]["lacks"]) else ""
        ),
        calibration=calibration(run, stage),
        own=facts.table(["scored on", "images", *heads], facts.own_rows(run, stage)),
        arm_table=facts.table(["scored on", "networks × images", *heads], facts.arm_rows(run, stage)),
        estimands=Trusted(tables.ESTIMANDS),
        caveats=" ".join(headline.caveats(run)),
    )


def calibration(run: Run, stage) -> str:
    """What its softmax is worth: the temperature of `predict`, where the run can tell one."""
    own = answering.member(run, stage)
    if own.why:
        return f"their softmax is not calibrated: {own.why}"
    return (
        f"divided by {own.temperature:.4g}, the temperature that fits patients of the training part who were kept "
        "from it, their softmax is what python -m pneumojax.predict says"
    )


def generator(run: Run, subject, common: dict) -> str:
    """README.md of a generator."""
    stage, gan = subject.stage, run.results["gan"]
    steps = [line["step"] for name, line in gan.get("losses", {}).items() if name.startswith(f"{stage.name}/")]
    chosen = gan.get("drawn_from", {}).get(stage.name)
    return rendered(
        "generator.md.j2",
        **common,
        size=run.config.gan.image_size,
        synthetic=Trusted(common["config"]["synthetic"]),
        steps=f"{max(steps)} steps" if steps else None,
        drawn_from=f"the state after step {chosen}, chosen by its KID" if chosen is not None else "its last state",
        quality=quality(run, stage),
        collapsed=(gan.get("collapsed") or {}).get(stage.name),
    )


def quality(run: Run, stage) -> Trusted | None:
    """What `gan.evaluate` found of a generator, a row a class; None where it was not run."""
    measured = run.results["gan"].get("quality") or {}
    keys = {"trial": stage.trial, "protocol": stage.protocol, "seed": stage.gan_seed}
    rows = [
        [one["class"], *(number(one.get(score)) for score in QUALITY)]
        for one in measured.get("gans", ())
        if all(one.get(key) == value for key, value in keys.items()) and stage.gan in ("all", one["class"].lower())
    ]
    return facts.table(["class", *QUALITY], rows) if rows else None


def number(value) -> str:
    """A score of a generator; '–' where it was not measured."""
    value = value.get("value") if isinstance(value, dict) else value
    return "–" if value is None else f"{value:.4g}"


def data(run: Run, subject, common: dict) -> str:
    """DATA.md."""
    known, external = run.results["data"], run.results["data"].get("external", {})
    return rendered(
        "data.md.j2",
        **common,
        data=known,
        counted=facts.counted(run),
        left_out=facts.left_out(run),
        external=facts.listed(f"{name} ({count} images)" for name, count in external.items()) or "none",
        parts=parts(run, subject.stage),
    )


def parts(run: Run, stage) -> Trusted | None:
    """How many images lie in each part of its trial and protocol, by splits.json, and of whom, by predictions.csv."""
    record = next((one for one in run.splits["trials"] if one["trial"] == stage.trial), {}).get(stage.protocol, {})
    columns = (run.predictions[name] for name in ("patient", "label"))
    known = dict(zip(run.predictions["name"], zip(*columns, strict=True), strict=True))
    rows = [
        [f"{name} {part}".strip(), str(len(names)), str(sum(map(generated, names))), *whose(names, known, run)]
        for name, own in [("", record), *((key, one) for key, one in record.items() if isinstance(one, dict))]
        for part, names in own.items()
        if isinstance(names, list)
    ]
    heads = ["part", "images", "of which generated", "patients of the real ones", "classes of the real ones"]
    return facts.table(heads, rows) if rows else None


def generated(name: str) -> bool:
    """Whether an image of splits.json was made by a GAN."""
    return name.startswith("generated/")


def whose(names: list[str], known: dict[str, tuple[str, int]], run: Run) -> list[str]:
    """Patients and classes of real images; known are those that a network of the run, any of them, was tested on."""
    real = [name for name in names if not generated(name)]
    if not known.keys() >= set(real):
        return ["not known", "not known"]
    labels = [known[name][1] for name in real]
    counts = (f"{labels.count(label)} {name}" for label, name in enumerate(run.config.data.classes))
    return [str(len({known[name][0] for name in real})), ", ".join(counts)]
