"""The 44 items of CLAIM 2024 (Tejani et al., Radiology: AI 2024), paraphrased, and what a run knows of each."""

from pneumojax.cards import facts
from pneumojax.report import headline
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
    declared = config.evaluate.declared
    return {
        1: f"deep learning: {headline.setting(run)[0]}",
        2: f"{headline.title(run)} (the abstract is the first section of report.html)",
        3: "research into generated images as training data; no clinical use is intended",
        4: f"declared beforehand: {declared[2]} against its control under {declared[0]}, {declared[1]}, by "
        f"{config.evaluate.score}; equivalent within {100 * config.evaluate.margin:g} points",
        5: known.get("design"),
        6: "to compare ways of training, not to make a device",
        7: known.get("source"),
        8: f"all images of the folders were taken; left out: {facts.left_out(run) or 'not known'}",
        9: f"gray, {facts.fit(run)} of {config.model.image_size} pixels; {facts.gray(run)}",
        11: known.get("deidentified"),
        12: f"unreadable images: {config.data.on_bad}; there are no other data than images and classes",
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
    trial, external = facts.trial_of(run, stage), run.results["data"].get("external", {})
    tests = "; ".join(f"{row[0]}: n = {row[1]}, accuracy {row[2]}, AUC {row[3]}" for row in facts.own_rows(run, stage))
    trials = len(run.config.trials)
    return {
        10: subset(run, stage),
        19: facts.protocol(stage),
        20: LEVELS.get(stage.protocol),
        21: f"none was computed; trained on {trial['train']} images, tested on {trial['test']}",
        28: ", ".join(facts.headings(run)),
        29: "95% intervals by patient (infinitesimal jackknife), and over trials: another training set, GAN and seed",
        30: f"{trials} {'trial' if trials == 1 else 'trials'}; arms and seeds side by side in report.html",
        31: "none here",
        32: tests,
        33: ", ".join(f"{name} ({count} images)" for name, count in external.items()) or "none",
        37: f"{tests}; the arm over trials: README.md",
        38: "the intervals of README.md",
        39: f"confusion matrix [true][predicted]: {trial['confusion_matrix']}; the worst errors are in report.html",
        41: "none: it is not for practice",
        42: "config.json, splits.json and results.json of the run, at the commit of item 23",
    }


def subset(run: Run, stage: Stage) -> str | None:
    """How the images of a trial were selected."""
    drawn = f"{', '.join(map(str, run.config.data.subset))} of each class a trial, drawn at random by patient"
    return {
        "clean": drawn,
        "paper": drawn,
        "disjoint": f"test patients once for all trials; of the others {drawn}",
        "official": "none: all images of the published folders",
        "patient_kfold": "none: all images",
    }.get(stage.protocol)
