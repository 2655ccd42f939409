"""The 44 items of CLAIM 2024 (Tejani et al., Radiology: AI 2024), paraphrased, and what a run knows of each."""

from pneumojax.cards import facts
from pneumojax.report import headline, maps, tables
from pneumojax.run import Run
from pneumojax.stage import Stage

ITEMS = (  # section, what is asked for; the number is the place, from 1
    ("Title", "said to be a study of AI, and of which kind"),
    ("Abstract", "design, methods, results and conclusions in short"),
    ("Introduction", "background, and what the AI is meant for"),
    ("Introduction", "aims and hypotheses"),
    ("Study design", "prospective or retrospective"),
    ("Study design", "goal of the study"),
    ("Data", "where the data are from"),
    ("Data", "what was included and what excluded"),
    ("Data", "preprocessing"),
    ("Data", "how parts of the data were selected"),
    ("Data", "how patients were made unrecognisable"),
    ("Data", "what was done about missing data"),
    ("Data", "how the images were acquired"),
    ("Reference standard", "how the reference standard was obtained"),
    ("Reference standard", "why this one"),
    ("Reference standard", "who annotated, and with what training"),
    ("Reference standard", "how the test set was annotated"),
    ("Reference standard", "how far annotators agree with each other and themselves"),
    ("Partitions", "how data were assigned to training and testing"),
    ("Partitions", "at which level the partitions are disjoint"),
    ("Testing data", "intended sample size"),
    ("Model", "the model in detail, its inputs and outputs"),
    ("Model", "software, with versions"),
    ("Model", "how parameters were initialised"),
    ("Training", "the training in detail"),
    ("Training", "how the final model was selected"),
    ("Training", "ensembles"),
    ("Evaluation", "metrics"),
    ("Evaluation", "significance and uncertainty"),
    ("Evaluation", "robustness and sensitivity"),
    ("Evaluation", "explainability"),
    ("Evaluation", "evaluation on internal data"),
    ("Evaluation", "testing on external data"),
    ("Evaluation", "registration of a clinical trial"),
    ("Results", "numbers of patients and images, included and excluded"),
    ("Results", "demographic and clinical characteristics in each partition"),
    ("Results", "performance, with its uncertainty"),
    ("Results", "estimates of diagnostic performance and their precision"),
    ("Results", "which cases went wrong, and why"),
    ("Discussion", "limitations"),
    ("Discussion", "what follows for practice"),
    ("Other", "where the whole protocol is"),
    ("Other", "whether software, model and data can be had"),
    ("Other", "funding, and what the funders did"),
)
LEVELS = {
    "clean": "the patient",
    "disjoint": "the patient",
    "patient_kfold": "the patient",
    "official": "as published; the patients on both sides are counted in results.json",
    "paper": "the image: patients are on both sides, as in the paper",
}


def checklist(run: Run, stage: Stage) -> list[tuple[int, str, str, str | None]]:
    """(number, section, item, what the run knows of it or None) of a classifier of a finished run."""
    known = of_data(run) | of_model(run, stage) | of_results(run, stage)
    return [(number, *item, known.get(number)) for number, item in enumerate(ITEMS, 1)]


def of_data(run: Run) -> dict[int, str | None]:
    """Of the study and its data, items 1 to 18 and others that the set determines."""
    data, config, known = run.results["data"], run.config, facts.of_set(run)
    return {
        1: f"deep learning: {headline.setting(run)[0]}",
        2: f"{headline.title(run)} (the abstract is the first section of report.html)",
        3: "research into generated images as training data; no clinical use is intended",
        4: aim(run),
        5: known.get("design"),
        6: "to compare ways of training, not to make a device",
        7: known.get("source"),
        8: "; ".join(
            [f"all images of the set were taken; left out: {facts.left_out(run) or 'not known'}"]
            + [known[name] for name in ("selected",) if name in known]
        ),
        9: f"gray, {facts.fit(run)} of {config.model.image_size} pixels, bilinear; {facts.gray(run)}; normalised by "
        "ImageNet's mean and deviation",
        11: known.get("deidentified"),
        12: f"unreadable images: {config.data.on_bad}; {patients(run)}; nothing else was asked of an image than its "
        "class",
        13: known.get("acquisition"),
        14: known.get("reference"),
        16: known.get("annotators"),
        17: known.get("annotators"),
        35: f"{data['images']} images of {data.get('patients', 'not known how many')} patients; left out: "
        f"{facts.left_out(run) or 'not known'}",
        36: known.get("demographics"),
        40: known["limits"],
        43: "software: pneumojax, Apache-2.0; model: this folder, licence not known; data: "
        f"{known.get('availability', 'not known')}",
    }


def of_model(run: Run, stage: Stage) -> dict[int, str | None]:
    """Of model and training, items 22 to 27, and software."""
    training, made = facts.training(run, stage), facts.environment(run)
    return {
        22: f"{training['network'] or training['system']}, {training.get('parameters', 'parameters not known')}; "
        f"takes images of {run.config.model.image_size} pixels, gives a logit for each of "
        f"{', '.join(run.config.data.classes)}",
        23: f"pneumojax {made['version'] or 'of a version not known'}, commit {made['commit'] or 'not known'}; "
        f"{made['packages'] or 'packages not known'}",
        24: training.get("begun"),
        25: f"{training['recipe']}; augmentation: {training['augmentation']}" if "recipe" in training else None,
        26: training.get("selection"),
        27: "none: this is one network",
    }


def of_results(run: Run, stage: Stage) -> dict[int, str | None]:
    """Of partitions, evaluation and results."""
    trial, trials = facts.trial_of(run, stage), len(run.config.trials)
    tests = {
        where: "; ".join(
            f"{row[0]}: n = {row[1]}, accuracy {row[2]}, AUC {row[3]}" for row in facts.own_rows(run, stage, where)
        )
        for where in ("internal", "external")
    }
    return {
        10: subset(run, stage),
        19: facts.protocol(stage),
        20: f"{LEVELS[stage.protocol]}; {patients(run)}" if stage.protocol in LEVELS else None,
        21: f"none was computed; trained on {trial['train']} images, tested on {trial['test']}",
        28: ", ".join(facts.headings(run)),
        29: uncertainty(run, stage),
        30: f"{trials} {'trial' if trials == 1 else 'trials'}; arms and seeds side by side in report.html",
        31: explained(run),
        32: tests["internal"],
        33: tests["external"] or "none",
        37: f"{'; '.join(filter(None, tests.values()))}; the arm over trials: README.md",
        38: "the intervals of README.md",
        39: f"confusion matrix [true][predicted]: {trial['confusion_matrix']}; the worst errors are in report.html",
        41: "none: it is not for practice",
        42: "config.json, splits.json and results.json of the run, at the commit of item 23",
    }


def aim(run: Run) -> str:
    """The contrast that its config declares, where it is in the run."""
    config, row = run.config.evaluate, headline.declared(run)
    declared = config.declared
    if row is None:
        return f"to score its arms; the contrast that its config declares ({', '.join(declared)}) is not in the run"
    return (
        f"declared in its config: {headline.pair_of(run, row)} under {declared[0]}, {declared[1]}, by "
        f"{config.score}; equivalent within {100 * config.margin:g} points"
    )


def patients(run: Run) -> str:
    """Of how many images the patient is not known, and what was done about it."""
    unknown = run.results["data"].get("patients_unknown")
    if unknown is None:
        return "of how many images the patient is not known, the run does not tell"
    return f"{unknown} images whose patient is not known" + (", each taken for a patient of its own" if unknown else "")


def uncertainty(run: Run, stage: Stage) -> str:
    """Intervals and tests that the run has."""
    arm = run.arm(stage)
    summary = next(one for part in ("unseen", "test") if (one := tables.summary_of(arm, part)))
    told = "95% intervals by patient (infinitesimal jackknife); of another training set, GAN and seed "
    told += f"none: {summary.get('procedure_why') or tables.OLDER}" if not summary.get("procedure") else "t over trials"
    tested = run.results["contrasts"] and not headline.is_phantom(run)
    return told + (
        "; p of contrasts of arms in report.html, by Holm but for the declared one"
        if tested
        else "; nothing was tested"
    )


def explained(run: Run) -> str:
    """The saliency maps that its page has."""
    found = maps.chosen(run)
    if not (found and maps.sheet_path(run.workdir, found[0]).exists()):
        return "none"
    return (
        f"Grad-CAM and integrated gradients of {found[0].name} in report.html, each with its correlation with the map "
        "after the parameters were drawn anew; python -m pneumojax.predict --explain makes them of any image"
    )


def subset(run: Run, stage: Stage) -> str | None:
    """How the images of a trial were selected."""
    wanted = zip(run.config.data.subset, run.config.data.classes, strict=False)
    drawn = f"{', '.join(f'{count} {name}' for count, name in wanted)} a trial, drawn at random by patient"
    return {
        "clean": drawn,
        "paper": drawn,
        "disjoint": f"test patients once for all trials; of the others {drawn}",
        "official": "none: all images of the published folders",
        "patient_kfold": "none: all images",
    }.get(stage.protocol)
