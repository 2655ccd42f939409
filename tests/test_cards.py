"""Cards of exported networks: what they say of a run, what they say is not known, and names that mean to harm."""

import json
import re

import pytest
from markdown_it import MarkdownIt

from pneumojax import answering, cards, export
from pneumojax import run as runs
from pneumojax.cards import claim, deck, facts
from pneumojax.report import tables

NAME = "trial0/clean/with_gan"
HOSTILE = [
    "<script>alert(1)</script>",
    "a\nb\r\n# heading",
    "| a | b |",
    "![x](http://evil.example/x.png)",
    "[x](javascript:alert(1))",
    "`code` **bold** _it_ ~~no~~ $x$",
    "<http://evil.example> http://evil.example www.evil.example",
    "\u202eabc\udcff\x1b[31m",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;img src=x onerror=alert(1)&gt;",
    "---",
    "12. a",
    "- a",
    "\\",
]


def html_of(text: str) -> str:
    """Markdown as a reader's program shows it, HTML let through, addresses made links."""
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text)


def shown(text: str) -> str:
    """What one sees of it."""
    plain = re.sub(r"<[^>]*>", "", html_of(text))
    for entity, character in {"&lt;": "<", "&gt;": ">", "&quot;": '"', "&amp;": "&"}.items():
        plain = plain.replace(entity, character)
    return plain.strip()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_shown_as_it_is_on_one_line(name):
    from pneumojax.names import printable

    for text in (f"It is {cards.escaped(name)}.", f"- {cards.escaped(name)}"):
        assert text.count("\n") == 0
        assert printable(name).replace("www.", "www.") in shown(text)
        assert not re.search(r"<(script|img|a|code|strong|em|s|h1|hr|table)\b", html_of(text))
    html = html_of(f"| a | b |\n|---|---|\n| {cards.escaped(name)} | last |")
    assert html.count("<td>") == 2
    assert "<td>last</td>" in html


def test_what_is_not_known_is_said_and_what_is_known_stays():
    for value in (None, ""):
        assert cards.shown(value) == "not known"
    assert cards.shown(0) == "0"
    assert cards.shown(cards.Trusted("`x`")) == "`x`"
    assert cards.shown("`x`") == "\\`x\\`"


def of(run, name=NAME) -> dict[str, str]:
    """The cards of a classifier of a run."""
    subject = export.of_classifier(run, name)
    config = {**subject.facts, "programs": {}, "files": {}}
    return deck.of(run, subject, config, (), "its own has not width 4")


@pytest.fixture(scope="module")
def run(whole):
    return runs.load(whole)


@pytest.fixture(scope="module")
def made(run):
    return of(run)


def rows_of(text: str) -> dict[str, list[str]]:
    """The rows of a card's tables by their first cell."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {row[0]: row[1:] for row in cells}


def test_the_model_card_has_the_runs_scores_with_intervals_counts_and_warnings(made, run):
    text = made["README.md"]
    assert text.startswith("---\nlicense: unknown\n")
    flat = " ".join(text.split())
    assert "It is no medical device, and nothing that it says is a diagnosis." in flat
    assert "Trained on phantoms, pictures that a program drew" in flat
    stage = next(stage for stage in run.stages() if stage.name == NAME)
    trial = facts.trial_of(run, stage)
    rows = rows_of(text)
    for part, title in (("unseen", tables.PARTS["unseen"]),):
        own = trial[part]
        low, high = own["interval"]["auc"]
        cells = [cell.replace("\\", "") for cell in rows[title]]
        first = next(
            line for line in text.splitlines() if line.startswith(f"| {title} |") and f"| {own['images']} |" in line
        )
        assert f"{100 * own['scores']['auc']:.1f} [{100 * low:.1f}, {100 * high:.1f}]" in first.replace("\\", "")
        mean = run.arm(stage)[part]["mean"]["accuracy"]
        assert any(f"{100 * mean:.1f} ± " in cell for cell in cells)  # of the arm, the later table
    assert (
        rows["trained on"][0]
        == f"{trial['train']} images as its arm counts them: some can be there again, moved, or made by a GAN "
        "(synthetic)"
    )
    environment = run.results["environment"]
    assert f"jax {environment['packages']['jax']}" in rows["versions"][0].replace("\\", "")
    assert (environment["code"]["commit"] or "not known").rstrip("+") in rows["made by"][0]
    assert rows["licence"][0].startswith("not known")
    assert "split by patient before anything is trained" in rows["protocol"][0]


def test_the_data_card_counts_what_lies_where(made, run):
    rows, data = rows_of(made["DATA.md"]), run.results["data"]
    assert rows["images"] == [str(data["images"])]
    assert rows["NORMAL"] == [f"{data['class_counts'][0]} images"]
    assert rows["patients"] == [str(data["patients"])]
    clean = run.splits["trials"][0]["clean"]
    told, columns = run.predictions, ("protocol", "part", "trial", "arm")
    for part in ("test", "unseen"):
        own = [
            row
            for row, key in enumerate(zip(*map(told.get, columns), strict=True))
            if key == ("clean", part, 0, "with_gan")
        ]
        sick = sum(told["label"][row] for row in own)
        patients = len({told["patient"][row] for row in own})
        counts = f"{len(own) - sick} NORMAL, {sick} PNEUMONIA"
        assert rows[part] == [str(len(clean[part])), "0", str(patients), counts]
    assert rows["train"][:2] == [str(len(clean["train"])), "0"]
    tested = {"a": ("p", 0), "b": ("p", 1), "c": ("q", 1)}
    assert deck.whose(["a", "b", "c", "generated/x"], tested, run) == ["2", "1 NORMAL, 2 PNEUMONIA"]
    assert deck.whose(["a", "d"], tested, run) == ["not known", "not known"]
    assert rows["source"][0].startswith("drawn by a program")
    assert rows["licence"] == ["not known"]
    assert data["fingerprint"] in rows["fingerprint"][0]


def test_the_checklist_has_44_items_and_says_what_is_not_known(made, run):
    rows = rows_of(made["CLAIM.md"])
    assert [number for number in rows if number.isdigit()] == [str(number) for number in range(1, 45)]
    known = {int(number): row[-1].replace("\\", "") for number, row in rows.items() if number.isdigit()}
    for number in (15, 18, 34, 44):
        assert known[number] == "not known"
    assert known[4].startswith("declared in its config: ‘with GAN’ against ‘without GAN’ under clean, unseen")
    assert known[13] == "none were: the pictures were drawn"
    assert known[20] == "the patient; 0 images whose patient is not known"
    assert known[29].endswith("GAN and seed t over trials; nothing was tested")  # phantoms have no p
    assert known[31].startswith("Grad-CAM and integrated gradients of trial0/")
    assert known[33] == "none"
    assert "pneumojax" in known[23]
    stage = next(stage for stage in run.stages() if stage.name == NAME)
    trial = facts.trial_of(run, stage)
    assert str(trial["confusion_matrix"]) in known[39]
    assert f"n = {trial['unseen']['images']}" in known[32]
    assert f"trained on {trial['train']} images" in known[21]
    paper = next(stage for stage in run.stages() if (stage.protocol, stage.arm) == ("paper", "with_gan"))
    assert "test holds generated images" in of(run, paper.name)["README.md"]
    assert "test holds generated images" not in made["README.md"]
    assert "patients are on both sides" in dict((n, own) for n, _, _, own in claim.checklist(run, paper))[20]


def test_names_in_a_run_cannot_make_markup(run, made):
    """Of classes, arms, test sets and whatever was left out: each card stays the card it was."""
    evil = "".join(HOSTILE).replace("\udcff", "")
    results = json.loads(json.dumps(run.results))
    results["data"] |= {"external": {evil: 3}, "left_out": {evil: 2}}
    results["data"]["gray"] = {"groups": {evil: {"black": 0, "white": 255}}}
    results["protocols"]["clean"]["with_gan"]["title"] = evil
    results["environment"]["packages"] = {evil: "1"}
    found = of(run._replace(results=results))
    for name, text in found.items():
        assert text.count("\n") == made[name].count("\n"), name
        html = html_of(text.partition("\n---\n")[2] or text)
        assert not re.search(r"<(script|img|a|h4|hr)\b", html), name
        assert html.count("<td>") == html_of(made[name].partition("\n---\n")[2] or made[name]).count("<td>"), name
    assert "alert" in found["DATA.md"]


def test_where_images_are_from_is_said_only_where_it_is_known(run):
    config = run.config.as_configdict()
    assert facts.kind(run) == facts.PHANTOM

    def told(name, images):
        config.data.name = name
        splits = {"trials": [{"trial": 0, "clean": {"subset": images}}]}
        return run._replace(config=config, splits=splits)

    names = ["train/NORMAL/IM-0115-0001.jpeg", "test/PNEUMONIA/person1_virus_6.jpeg"]
    published = told("folder", names)
    assert facts.kind(published) == facts.PUBLISHED
    assert "children of one hospital" in answering.trained_on(published)
    assert facts.of_set(published)["source"].endswith("told by the names of its files alone")
    assert not facts.of_set(told("kermany", names))["source"].endswith("alone")
    config.data.dir = "somebody's"  # which `kermany` reads as a folder of whatever images, as the README's command does
    assert facts.kind(told("kermany", names)) == facts.PUBLISHED
    assert facts.of_set(told("kermany", names))["source"].endswith("alone")
    assert facts.kind(told("kermany", ["NORMAL/ours.png"])) == facts.OTHER
    other = told("folder", [*names, "train/NORMAL/00000013_005.png"])
    assert facts.kind(other) == facts.OTHER
    assert facts.of_set(other).keys() == {"limits"}


def test_steps_are_those_that_an_arm_took(run):
    """`with_gan_epochs` takes as many epochs as its control, of more images."""
    stages = {stage.name: stage for stage in run.stages()}
    assert facts.steps_of(run, stages[NAME]) == f"{run.config.classifier.steps} steps"
    longer = stages["trial0/clean/with_gan_epochs"]
    assert facts.steps_of(run, longer) == f"{2 * run.config.classifier.steps} steps"  # config.enlarge
    assert f", {2 * run.config.classifier.steps} steps, " in facts.training(run, longer)["recipe"]


def test_weights_are_named_by_their_file_and_not_by_its_folder(run):
    config = run.config.as_configdict()
    config.model.weights = "/home/of/somebody/<b>.pth"
    facts_of = {"weights": "file", "weights_digest": "0123456789abcdef", "new_parameters": ["fc.bias", "fc.kernel"]}
    told = run.results | {"classifier": run.results["classifier"] | facts_of}
    stage = next(stage for stage in run.stages() if stage.name == NAME)
    known = facts.training(run._replace(config=config, results=told), stage)
    assert known["begun"] == "from weights given as <b>.pth, digest 0123456789ab…; fc started anew"


def test_a_probe_says_how_it_was_fitted_and_its_penalty_chosen(probed):
    run = runs.load(probed)
    stage = run.stages()[0]
    known = facts.training(run, stage)
    assert known["recipe"].startswith("logistic regression with an L2 penalty, to convergence (L-BFGS), on the means")
    penalties = ", ".join(f"{one:g}" for one in run.config.system.penalties)
    assert known["selection"].endswith(penalties)
    items = {number: own for number, _, _, own in claim.checklist(run, stage)}
    assert items[26] == known["selection"]
    assert "not known" not in items[25]


def test_scores_on_other_sets_are_no_internal_ones_and_a_contrast_that_is_not_there_is_not_declared(run):
    results = json.loads(json.dumps(run.results))
    stage = next(stage for stage in run.stages() if stage.name == NAME)
    trial = facts.trial_of(run._replace(results=results), stage)
    trial["external/nih"] = {**trial["unseen"], "images": 974}
    results["contrasts"] = []
    results["data"]["patients_unknown"] = 7
    items = {number: own for number, _, _, own in claim.checklist(run._replace(results=results), stage)}
    assert items[33].startswith("external/nih: n = 974, accuracy ")
    assert "nih" not in items[32]
    assert items[4].endswith("(clean, unseen, with_gan) is not in the run")
    assert items[20] == "the patient; 7 images whose patient is not known, each taken for a patient of its own"


def test_a_generator_that_collapsed_says_so(run):
    subject = export.of_gan(run, "trial0/clean/gan_normal")
    for collapsed in ({}, {"trial0/clean/gan_normal": "all are *alike*"}):
        told = run._replace(results=run.results | {"gan": run.results["gan"] | {"collapsed": collapsed}})
        text = deck.of(told, subject, {**subject.facts, "programs": {}, "files": {}}, (), "")["README.md"]
        assert ("- It collapsed: all are \\*alike\\*." in text) == bool(collapsed)


def test_names_in_commands_are_as_one_types_them(run):
    subject = export.of_classifier(run, NAME)
    config = {**subject.facts, "model": "squeezenet1_0", "fields": {}, "programs": {}, "files": {}}
    text = deck.of(run, subject, config, (), "")["README.md"]
    assert "`--config.model.name=squeezenet1_0 --config.model.weights=FOLDER`" in text
    assert cards.code("a`b\n") == "a'b\\n"
