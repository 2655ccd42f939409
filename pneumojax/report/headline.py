"""What a run comes to, in a sentence and an abstract that are made of its numbers and say no more than these."""

from pneumojax import offers
from pneumojax.evaluate import intervals
from pneumojax.report import contrasts, tables
from pneumojax.run import Run

PLACE = 0
PHANTOMS = (
    "All pictures were drawn by a program: that the study runs, from images to this page, is all that can be learnt "
    "here. Its numbers say nothing of X-rays, of GANs or of the paper."
)
VERDICTS = {
    "help": "A gain, also with another training set, GAN and seed",
    "harm": "A loss, also with another training set, GAN and seed",
    "small": "A difference smaller than the margin, though not none",
    "equivalent": "No difference that matters",
    "undecided": "Undecided",
}


def section(run: Run) -> dict:
    """Title and abstract."""
    paragraphs = [setting(run)]
    paragraphs += [[PHANTOMS]] if is_phantom(run) else [of_contrast(run), of_paper(run)]
    paragraphs.append(caveats(run))
    return {"title": title(run), "blocks": [{"prose": " ".join(own)} for own in paragraphs if own]}


def is_phantom(run: Run) -> bool:
    """Whether its pictures are drawn."""
    return run.config.data.name == "phantom"


def declared(run: Run) -> dict | None:
    """The row of the contrast that was declared beforehand; None where this run has none."""
    return next((row for row in run.results["contrasts"] if row["declared"]), None)


def verdict(row: dict) -> str:
    """help, harm, small, equivalent or undecided: by the procedure's interval alone."""
    interval = (row["procedure"] or {}).get("interval")
    if row["difference"] is None or not interval:
        return "undecided"
    low, high = interval
    if low > 0 or high < 0:
        return "small" if row.get("equivalent") else "help" if low > 0 else "harm"
    return "equivalent" if row.get("equivalent") else "undecided"


def title(run: Run) -> str:
    """The verdict on the declared contrast, in one sentence."""
    if is_phantom(run):
        return "A run on drawn pictures: that it runs is all it shows"
    if not any("mean" in arm for arms in run.results["protocols"].values() for arm in arms.values()):
        return "No result: every classifier diverged"
    row = declared(run)
    if not row:
        return "Scores, and no verdict: the contrast that was declared is not in this run"
    if row["difference"] is None:
        return f"Undecided: {score_of(row)} is undefined, since a class has no image there"
    found = f"{contrasts.points(row['difference'])} points of {score_of(row)}"
    by = f"{VERDICTS[verdict(row)]}: {pair_of(run, row)} has {found}"
    interval = (row["procedure"] or {}).get("interval")
    if not interval:
        return f"{by}, and what another training set would give is not known ({why_of(row)})"
    held = ", which holds 0" if verdict(row) == "undecided" else ""
    return f"{by}, 95% {contrasts.between(interval)} for this procedure{held}"


def pair_of(run: Run, row: dict) -> str:
    """'‘with GAN’ against ‘without GAN’'."""
    arms = run.results["protocols"][row["protocol"]]
    return " against ".join(f"‘{arms[name]['title']}’" for name in row["arms"])


def score_of(row: dict) -> str:
    """What the score of a contrast is called."""
    return tables.HEADINGS[contrasts.score_of(row)]


def why_of(row: dict) -> str:
    """Why nothing is known of the procedure."""
    return row.get("procedure_why") or (intervals.ALIKE if row["procedure"] else "fewer than 3 trials")


def setting(run: Run) -> list[str]:
    """What was run on what."""
    results, data = run.results, run.results["data"]
    classifier = results["classifier"]
    how = classifier["system"]
    if "weights" in classifier:
        begun = "from scratch" if classifier["weights"] == "none" else "from pretrained weights"
        how = f"{results['model']} ({classifier['system']}, mode {classifier['mode']}, {begun})"
    counts = ", ".join(f"{n} {name}" for n, name in zip(data.get("class_counts", ()), data["classes"], strict=False))
    patients = f" of {data['patients']} patients" if "patients" in data else ""
    arms = dict.fromkeys(arm["title"] for arms in results["protocols"].values() for arm in arms.values())
    networks = sum(len(whole(arm)) for arms in results["protocols"].values() for arm in arms.values())
    trials = len(run.config.trials)
    protocols = f"{'protocol' if len(results['protocols']) == 1 else 'protocols'} {listed(results['protocols'])}"
    told = [
        f"{how} learnt to tell {' from '.join(data['classes'])} on {data['images']:,} images{patients} ({counts}): "
        f"{trials} {'trial' if trials == 1 else 'trials'}, {protocols}, "
        f"arms {listed(f'‘{name}’' for name in arms)}, {networks} {'network' if networks == 1 else 'networks'} in all."
    ]
    if results["gan"].get("losses") or run.grids:
        told.append(f"The images of its GANs ({results['gan']['name']}) are synthetic: none is of a patient.")
    return told


def listed(names) -> str:
    """'a, b and c'."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def whole(arm: dict) -> list[dict]:
    """The networks of an arm that have scores."""
    return [trial for trial in arm["trials"] if "diverged" not in trial]


def of_contrast(run: Run) -> list[str]:
    """The declared contrast, with both estimands, and what another seed alone does."""
    row = declared(run)
    if not row:
        where = ", ".join(run.config.evaluate.declared)
        return [
            f"The contrast that was declared beforehand ({where}) is not in this run: nothing is said of help or harm."
        ]
    arms = [run.results["protocols"][row["protocol"]][name] for name in row["arms"]]
    n = tables.image_counts(arms[0]["trials"], row["part"])
    told = [
        f"Declared beforehand was {score_of(row)} on {tables.PARTS[row['part']]} under {row['protocol']}, "
        f"{pair_of(run, row)} (n = {n}): a difference of {contrasts.points(row['difference'])} points."
    ]
    own, procedure = (row[kind] or {} for kind in ("patients", "procedure"))
    if own.get("interval"):
        told.append(f"(a) These networks and new patients: 95% {contrasts.between(own['interval'])}.")
    if procedure.get("interval"):
        few = ", which are few" if procedure.get("few") else ""
        trials = f"{procedure['replicates']} trials{few}"
        told.append(f"(b) This procedure, made again: 95% {contrasts.between(procedure['interval'])}, from {trials}.")
    else:
        told.append(f"(b) Of this procedure, made again, nothing is known: {why_of(row)}.")
    told.append(meaning(row, 100 * run.config.evaluate.margin))
    if "same_procedure" in row:
        same = row["same_procedure"]
        if same:
            told.append(f"Another seed of the control alone makes {contrasts.points(same['difference'])} points (A/A).")
        else:
            told.append("What another seed of the control alone makes was not run (A/A).")
    fallen, count = sum(arm.get("collapsed", 0) for arm in arms), sum(len(whole(arm)) for arm in arms)
    if fallen:
        told.append(f"Of the {count} networks of these two arms {fallen} collapsed: the difference may be theirs.")
    return told


def meaning(row: dict, margin: float) -> str:
    """What (b) says, in words."""
    score = score_of(row)
    return {
        "help": "By (b) the first arm helps.",
        "harm": "By (b) the first arm harms.",
        "small": f"By (b) there is a difference, but both arms are equivalent within ±{margin:g} points of {score}.",
        "equivalent": f"By (b) both arms are equivalent within ±{margin:g} points of {score}.",
        "undecided": "Whether the first arm helps or harms is undecided.",
    }[verdict(row)]


def of_paper(run: Run) -> list[str]:
    """The published protocol's accuracy, what it is made of, and the honest one beside."""
    arms = {name: arm for name, arm in run.results["protocols"].get("paper", {}).items() if "mean" in arm}
    if not arms:
        return []
    name = "with_gan" if "with_gan" in arms else list(arms)[-1]
    arm = arms[name]
    pieces = [("test_generated", "on its generated images"), ("test_real", "on its real ones")]
    pieces = [f"{told(arm, part)} {words}" for part, words in pieces if tables.summary_of(arm, part)]
    text = f"Under the published protocol ‘{arm['title']}’ has an accuracy of {told(arm, 'test')} on its own test set"
    text += f" ({', '.join(pieces)})" if pieces else ""
    text += f", and of {told(arm, 'unseen')} on real images unseen" if tables.summary_of(arm, "unseen") else ""
    sentences = [f"{text}."]
    for protocol, others in run.results["protocols"].items():
        honest = others.get(name, {})
        part = next((part for part in ("unseen", "test") if tables.summary_of(honest, part)), None)
        if protocol != "paper" and part:
            summary = tables.summary_of(honest, part)
            by = summary["interval"]["accuracy"], tables.of_procedure(summary, "accuracy")
            named = [f"({letter}) {tables.between(own) or 'unknown'}" for letter, own in zip("ab", by, strict=True)]
            sentences.append(
                f"Under {protocol} it has {told(honest, part)} on {tables.PARTS[part]}, 95% {', '.join(named)}."
            )
            break
    return sentences


def told(arm: dict, part: str) -> str:
    """'98.1% (3 × 125)': the mean accuracy and n."""
    accuracy = tables.summary_of(arm, part)["mean"]["accuracy"]
    return f"{tables.percent(accuracy)}% ({tables.image_counts(arm['trials'], part)})"


def caveats(run: Run) -> list[str]:
    """What has to be known of the networks before any of this is believed."""
    arms = [(protocol, arm) for protocol, own in run.results["protocols"].items() for arm in own.values()]
    sentences = []
    known = [arm for _, arm in arms if "collapsed" in arm]
    if known:
        fallen, count = sum(arm["collapsed"] for arm in known), sum(len(whole(arm)) for arm in known)
        says = "said one class of everything"
        none = f"Not one of the {count} networks collapsed, that is, {says}."
        sentences.append(f"Collapsed: {fallen} of {count} networks {says}; they are in all means." if fallen else none)
    failed = [
        f"{protocol}, ‘{arm['title']}’ ({len(arm['trials']) - len(whole(arm))} of {len(arm['trials'])})"
        for protocol, arm in arms
        if len(whole(arm)) < len(arm["trials"])
    ]
    if failed:
        sentences.append(f"Diverged and left out: {'; '.join(failed)}.")
    for protocol, names in offers.without_place(run.config, run.results["protocols"]).items():
        sentences.append(f"Asked for and without a place under {protocol}: {', '.join(names)}.")
    if (run.results["gan"].get("losses") or run.grids) and run.config.gan.flip != run.config.classifier.flip:
        who = ("classifiers", "GANs") if run.config.classifier.flip else ("GANs", "classifiers")
        sentences.append("{} saw mirrored images and {} did not, which is a difference of its own.".format(*who))
    if by := run.results["classifier"].get("weights_trained_by"):
        sentences.append(f"It began with {by} of an earlier run: if that saw patients tested here, scores flatter.")
    if gans := run.results["gan"].get("collapsed"):
        sentences.append(f"GANs that collapsed: {', '.join(sorted(gans))}.")
    if not is_phantom(run):
        sentences += tables.why_no_procedure(run)
    return sentences
