"""The page's first words: what they say of a run, case by case, and that it is not more than its numbers."""

import copy

import pytest
from invented import answers_of, older, run_of
from ml_collections import ConfigDict, FrozenConfigDict

from pneumojax.report import headline


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("run"), answers_of(), evaluate__score="auc")


def with_row(run, **fields):
    """The run, of whose contrasts the declared one is another."""
    results = copy.deepcopy(run.results)
    [row] = [row for row in results["contrasts"] if row["declared"]]
    row |= fields
    return run._replace(results=results)


def words(run) -> str:
    return " ".join(block["prose"] for block in headline.section(run)["blocks"])


def procedure(low, high, replicates=6):
    return {"interval": [low, high], "p_value": 0.5, "replicates": replicates, "few": replicates < 6}


@pytest.mark.parametrize(
    ("difference", "found", "equivalent", "verdict", "begun", "said"),
    [
        (0.02, procedure(0.005, 0.035), False, "help", "A gain", "By (b) the first arm helps."),
        (-0.02, procedure(-0.035, -0.005), False, "harm", "A loss", "By (b) the first arm harms."),
        (0.02, procedure(-0.01, 0.05), False, "undecided", "Undecided", "is undecided."),
        (
            0.001,
            procedure(-0.003, 0.005),
            True,
            "equivalent",
            "No difference that",
            "equivalent within ±1 points of AUC",
        ),
        (0.004, procedure(0.002, 0.006), True, "small", "A difference smaller", "but both arms are equivalent within"),
        (0.02, None, None, "undecided", "Undecided", "nothing is known: fewer than 3 trials."),
        (0.0, procedure(0, 0) | {"interval": None}, None, "undecided", "Undecided", "no variance can be told"),
    ],
)
def test_a_verdict_is_the_procedures(run, difference, found, equivalent, verdict, begun, said):
    """Whatever the interval of these networks: it is far from 0 in all cases."""
    why = None if found else "fewer than 3 trials"
    own = {"patients": {"interval": [0.1, 0.2], "p_value": 0.0001}, "procedure_why": why}
    one = with_row(run, difference=difference, procedure=found, equivalent=equivalent, **own)
    assert headline.verdict(headline.declared(one)) == verdict
    title = headline.title(one)
    assert title.startswith(f"{begun}")
    assert f"‘with GAN’ against ‘without GAN’ has {100 * difference:+.1f} points of AUC" in title
    text = words(one)
    assert said in text
    assert "(a) These networks and new patients: 95% [+10.0, +20.0]." in text
    assert ("which holds 0" in title) == (verdict == "undecided" and bool(found and found["interval"]))
    for word in ("helps.", "harms."):
        assert (word in text) == (said.endswith(word))


def test_the_abstract_is_made_of_the_runs_numbers(run):
    text, row = words(run), headline.declared(run)
    assert text.startswith(
        "resnet18 (finetune, mode full, from scratch) learnt to tell NORMAL from PNEUMONIA on 400 images of 200 "
        "patients (200 NORMAL, 200 PNEUMONIA): 3 trials, protocols clean and paper, arms ‘without GAN’ and ‘with GAN’, "
        "12 networks in all."
    )
    assert f"(n = 3 × 40): a difference of {100 * row['difference']:+.1f} points." in text
    low, high = row["procedure"]["interval"]
    assert f"95% [{100 * low:+.1f}, {100 * high:+.1f}], from 3 trials, which are few." in text
    assert "What another seed of the control alone makes was not run (A/A)." in text
    paper, clean = (run.results["protocols"][name]["with_gan"] for name in ("paper", "clean"))
    percent = {part: f"{100 * paper[part]['mean']['accuracy']:.1f}% (3 × 40)" for part in paper if "test_" in part}
    assert f"({percent['test_generated']} on its generated images, {percent['test_real']} on its real ones)" in text
    assert f"an accuracy of {100 * paper['mean']['accuracy']:.1f}% (3 × 40) on its own test set" in text
    a, b = clean["unseen"]["interval"]["accuracy"], clean["unseen"]["procedure"]["accuracy"]["interval"]
    intervals = [f"[{100 * low:.1f}, {100 * high:.1f}]" for low, high in (a, b)]
    honest = f"{100 * clean['unseen']['mean']['accuracy']:.1f}% (3 × 40)"
    assert f"Under clean it has {honest} on unseen real images outside the subset, 95% (a) {intervals[0]}, " in text
    assert f"(b) {intervals[1]}." in text
    assert "Not one of the 12 networks collapsed" in text
    assert "synthetic" not in text  # no GAN was trained
    assert "none is of a patient" in words(
        run._replace(results=run.results | {"gan": {"name": "x", "losses": {"a": 1}}})
    )


def test_another_seed_stands_beside(run):
    same = {"seeds": "classifier_seed", "difference": -0.034, "patients": {}, "procedure": None}
    assert "Another seed of the control alone makes -3.4 points (A/A)." in words(with_row(run, same_procedure=same))


def test_networks_that_collapsed_are_counted_and_their_contrast_is_doubted(run):
    one = run._replace(results=copy.deepcopy(run.results))
    one.results["protocols"]["clean"]["with_gan"]["collapsed"] = 2
    text = words(one)
    assert "Of the 6 networks of these two arms 2 collapsed: the difference may be theirs." in text
    assert "Collapsed: 2 of 12 networks said one class of everything; they are in all means." in text


def test_arms_that_diverged_are_named(run):
    one = run._replace(results=copy.deepcopy(run.results))
    arm = one.results["protocols"]["paper"]["with_gan"]
    arm["trials"][1] = {"trial": 1, "train": 80, "diverged": {"step": 2, "metric": "loss", "checkpoint": None}}
    assert "Diverged and left out: paper, ‘with GAN’ (1 of 3)." in words(one)
    assert "11 networks in all" in words(one)


def changed(run, **fields):
    """The run with other fields of its config: 'field' or 'section__field'."""
    config = ConfigDict(run.config)
    for field, value in fields.items():
        section, _, name = field.rpartition("__")
        (config[section] if section else config)[name] = value
    return run._replace(config=FrozenConfigDict(config))


def test_arms_that_were_asked_for_and_have_no_place_are_named(run):
    assert "without a place" not in words(run)
    text = words(changed(run, arms=("without_gan", "with_gan", "package.own", "generated_9")))
    assert "Asked for and without a place under clean: own, generated_9." in text
    assert "under paper: " not in text


def test_mirrored_images_of_one_side_alone_are_told(run):
    told = "GANs saw mirrored images and classifiers did not, which is a difference of its own."
    assert run.config.gan.flip > run.config.classifier.flip
    assert "mirrored" not in words(run)  # no GAN was trained
    one = run._replace(results=run.results | {"gan": run.results["gan"] | {"losses": {"trial0/clean/gan_normal": {}}}})
    assert told in words(one)
    assert "mirrored" not in words(changed(one, gan__flip=False))
    assert "classifiers saw mirrored images and GANs did not" in words(
        changed(one, gan__flip=False, classifier__flip=True)
    )


def test_weights_that_an_earlier_run_trained_are_told(run):
    assert "earlier run" not in words(run)
    told = {"classifier": run.results["classifier"] | {"weights_trained_by": "trial0/clean/with_gan"}}
    text = words(run._replace(results=run.results | told))
    assert "It began with trial0/clean/with_gan of an earlier run: if that saw patients tested here, scores" in text


def test_a_run_of_which_all_diverged_has_no_result(run):
    one = run._replace(results=copy.deepcopy(run.results) | {"contrasts": []})
    for arms in one.results["protocols"].values():
        for name, arm in arms.items():
            how = {"step": 2, "metric": "loss", "checkpoint": None}
            kept = {key: arm[key] for key in ("title", "against")}
            arms[name] = kept | {"trials": [{"trial": t, "train": 80, "diverged": how} for t in range(3)]}
    assert headline.title(one) == "No result: every classifier diverged"
    assert "0 networks in all" in words(one)
    assert "accuracy of" not in words(one)


def test_nothing_is_said_of_phantoms_but_that_it_runs(tmp_path):
    one = run_of(tmp_path, answers_of(), data__name="phantom")
    assert headline.title(one) == "A run on drawn pictures: that it runs is all it shows"
    text = words(one)
    assert "Its numbers say nothing of X-rays, of GANs or of the paper." in text
    assert not any(word in text for word in ("points", "accuracy", "helps", "harms", "95%", "undecided"))


def test_a_run_without_the_declared_contrast_says_so(tmp_path):
    one = run_of(tmp_path, answers_of(parts={"paper": ("test", "unseen")}))
    assert headline.title(one) == "Scores, and no verdict: the contrast that was declared is not in this run"
    assert "(clean, unseen, with_gan) is not in this run: nothing is said of help or harm." in words(one)
    assert "on its own test set, and of" in words(one)  # no pieces: its test has no generated images


def test_two_trials_tell_nothing_of_the_procedure(tmp_path):
    one = run_of(tmp_path, answers_of(trials=(0, 1)))
    assert headline.title(one).endswith("what another training set would give is not known (fewer than 3 trials)")
    text = words(one)
    assert "nothing is known: fewer than 3 trials. Whether the first arm helps or harms is undecided." in text
    assert "No (b) under clean, paper: fewer than 3 trials." in text
    assert "(b) unknown." in text


def test_official_trials_tell_nothing_of_the_procedure(tmp_path):
    one = run_of(tmp_path, answers_of(parts={"official": ("test",)}))
    assert "No (b) under official: trials share their training images." in words(one)


def test_a_contrast_on_a_part_that_lacks_a_class_is_undefined(run):
    why = "a class has no image there"
    one = with_row(
        run, difference=None, procedure=None, procedure_why=why, patients={"interval": None, "p_value": None}
    )
    assert headline.title(one) == f"Undecided: AUC is undefined, since {why}"
    assert "a difference of – points" in words(one)


def test_a_run_that_is_older_than_scores_and_procedures_has_a_headline(run):
    one = older(run)
    assert headline.title(one).startswith("Undecided: ‘with GAN’ against ‘without GAN’ has")
    assert "No (b) under clean, paper: this run was made before it was computed." in words(one)
    assert "collapsed" not in words(one)
    assert "A/A" not in words(one)
