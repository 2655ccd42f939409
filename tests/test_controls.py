"""Controls: arms that add images to the same batches of real ones, several seeds, and the protocol that suits them."""

import json

import numpy as np
import pytest
import runs

from configs import default
from pneumojax import additions, augment, gan, plan, run
from pneumojax import config as configs
from pneumojax.data import phantom, splits
from pneumojax.data import table as tables
from pneumojax.data.table import Table
from pneumojax.errors import BadInput
from pneumojax.stage import Stage
from pneumojax.systems import finetune

CONTROLS = ("without_gan", "duplicated", "low_resolution", "classical", "generated", "permuted", "shuffled")
MORE = ("generated_quarter", "generated_4", "generated_9", "generated_only", "tested_on_generated")


def drawn(words, protocols=("disjoint",), trials=(0,), seeds=1, **fields):
    """The plans of a study of phantoms, its images and config."""
    c = default.get_config()
    c.update({"arms": words, "protocols": protocols, "enlarge": 10.0, "trials": trials})
    c.data.update({"phantom_images": (60, 100), "subset": (20, 30)})
    c.gan.update({"batch_size": 4, "seeds": seeds, "flip": False})
    c.classifier.update({"batch_size": 4, "steps": 6})
    c.update(fields)
    images, c = phantom.load(c.data, 8), configs.frozen(c)
    return plan.draw(images, {}, len(images.names), c)[0], images, c


def arms_of(one):
    return {stage.arm: arm for stage, arm in one.arms.items() if stage.gan_seed == 0}


def test_controls_share_real_images_tests_and_steps_and_differ_in_what_is_added():
    plans, images, c = drawn(CONTROLS + MORE)
    one = plans[0, "disjoint"]
    arms, world = arms_of(one), plan.world(images, plans, c.data.classes)
    assert list(arms) == list(CONTROLS + MORE)
    real = arms["without_gan"].train
    counts = np.bincount(images.labels[real])
    assert counts.tolist() == [20, 30]
    for name, arm in arms.items():
        assert arm.steps == 6
        assert set(arm.tests["test"]) == set(arms["without_gan"].tests["test"])
        if name != "generated_only":
            assert arm.train.tolist() == real.tolist()
        added = np.bincount(world.labels[arm.extra], minlength=2)
        ratio = {"generated_quarter": 0.25, "generated_4": 4, "generated_9": 9}.get(name, 1)
        if name in ("without_gan", "generated_only", "tested_on_generated"):
            ratio = 0
        if name == "shuffled":
            assert (sorted(world.labels[arm.extra]), len(arm.extra)) == ([0] * 20 + [1] * 30, 50)
        assert added.tolist() == splits.held_out(counts, ratio).tolist()
    assert arms["generated_only"].train.tolist() == arms["generated"].extra.tolist()
    assert set(arms["tested_on_generated"].tests["generated"]) == set(arms["generated"].extra)
    assert set(arms["generated_quarter"].extra) < set(arms["generated"].extra) < set(arms["generated_4"].extra)
    assert [world.names[row] for row in arms["low_resolution"].extra] == [
        f"low_resolution/{images.names[row]}" for row in real
    ]
    assert [world.patients[row] for row in arms["classical"].extra] == [images.patients[row] for row in real]
    assert [world.names[row] for row in arms["permuted"].extra[[0, -1]]] == [
        "permuted/NORMAL/0",
        "permuted/PNEUMONIA/29",
    ]
    assert len(set(world.names)) == len(world.names) == len(world.labels) == len(world.patients)


def test_contrasts_of_the_controls_are_those_of_the_plan():
    arms = arms_of(drawn(CONTROLS)[0][0, "disjoint"])
    pairs = {(name, other) for name, arm in arms.items() for other in (arm.against, *arm.also) if other}
    assert pairs == {
        ("duplicated", "without_gan"),
        ("low_resolution", "duplicated"),
        ("classical", "duplicated"),
        ("permuted", "duplicated"),
        ("shuffled", "duplicated"),
        *(("generated", other) for other in ("duplicated", "low_resolution", "classical", "permuted", "shuffled")),
    }


def test_controls_have_no_place_under_the_protocol_paper_nor_without_generated_images():
    assert list(arms_of(drawn(CONTROLS, ("paper",))[0][0, "paper"])) == ["without_gan"]
    with pytest.raises(BadInput, match=r"generated counts against|duplicated"):
        drawn(("without_gan", "generated"))
    plain = arms_of(drawn(CONTROLS, enlarge=1.0)[0][0, "disjoint"])
    assert list(plain) == ["without_gan", "duplicated", "low_resolution", "classical"]


def test_mirrored_images_are_in_both_arms_or_in_none():
    asked = ("without_gan", "duplicated", "generated", "with_gan")
    gan, classifier = (default.get_config()[name] for name in ("gan", "classifier"))
    gan.update({"batch_size": 4, "flip": True})
    classifier.update({"batch_size": 4, "steps": 6})
    with pytest.raises(
        BadInput, match=r"config.gan.flip=True.*of generated and duplicated one alone would see mirrored"
    ):
        drawn(asked, gan=gan, classifier=classifier)
    with pytest.raises(BadInput, match="of generated_only and without_gan one alone would see mirrored"):
        drawn(("without_gan", "generated_only"), gan=gan, classifier=classifier)
    drawn(("without_gan", "duplicated", "with_gan"), gan=gan, classifier=classifier)  # the paper's way
    classifier.flip = True
    drawn((*asked, "generated_only"), gan=gan, classifier=classifier)


def test_what_has_no_place_is_said_and_so_is_a_declared_contrast_that_is_none(caplog):
    declared = default.get_config().evaluate
    with caplog.at_level("WARNING"):
        declared.declared = ("disjoint", "test", "duplicated")
        drawn(("without_gan", "duplicated"), ("disjoint", "paper"), evaluate=declared)
        assert not caplog.messages
        drawn(("without_gan", "duplicated", "generated", "generated_9"), enlarge=3.0, evaluate=declared)
        [said] = caplog.messages
        assert said.startswith("config.enlarge=3: of config.arms these have no place under disjoint")
        assert said.endswith(": generated_9")
        for nowhere in (
            ("disjoint", "unseen", "duplicated"),
            ("clean", "test", "duplicated"),
            ("disjoint", "test", "x"),
        ):
            caplog.clear()
            declared.declared = nowhere
            drawn(("without_gan", "duplicated"), evaluate=declared)
            assert f"config.evaluate.declared={nowhere}: this study has no such contrast" in caplog.text


def test_trials_of_disjoint_that_share_training_patients_are_known(caplog):
    c = default.get_config()
    c.update({"arms": ("without_gan",), "protocols": ("disjoint",), "trials": (0, 1, 2), "enlarge": 1.0})
    c.data.update({"phantom_images": (60, 100), "subset": (22, 36)})
    images = phantom.load(c.data, 8)
    assert plan.draw(images, {}, len(images.names), c)[1] == [2]
    assert "trials [2] share patients with earlier ones" in caplog.text


def test_what_no_arm_asks_for_has_no_rows():
    plans, images, _ = drawn(("without_gan", "duplicated", "classical"), trials=(0, 1))
    kinds = [block.kind for one in plans.values() for block in one.blocks]
    assert kinds == ["generated", "copies"] * 2
    blocks = list(additions.blocks(plans))
    ends = np.cumsum([len(block.labels) for block in blocks])
    assert [block.first for block in blocks] == [len(images.names) + n for n in (0, *ends[:-1])]
    for one in plans.values():
        assert set(arms_of(one)["classical"].extra) == set(one.blocks[1].rows)
        assert one.gan_stages(gan.load("dcgan"), ("NORMAL", "PNEUMONIA")) == {}


def test_how_a_copy_is_moved_does_not_hang_on_what_else_is_added():
    def copies_of(arms, seed=0, trials=(0, 1)):
        plans, images, _ = drawn(("without_gan", *arms), trials=trials)
        first, end = len(images.names), list(additions.blocks(plans))[-1].rows[-1] + 1
        added = additions.nothing(first, end, 8)
        additions.of_others(added, plans, None, seed)
        return {key: added.copies[plan.blocks[-1].rows - first].tolist() for key, plan in plans.items()}

    alone = copies_of(["duplicated", "classical"])
    assert copies_of(["duplicated", "generated", "generated_quarter", "classical"]) == alone
    assert copies_of(["duplicated", "classical"], trials=(0,)).items() <= alone.items()
    assert copies_of(["duplicated", "classical"], seed=1) != alone
    numbers = np.concatenate(list(alone.values()))[:, 1]
    assert len(set(numbers)) == len(numbers)


def test_test_patients_are_the_same_in_all_trials_of_disjoint_and_training_patients_never():
    plans, images, c = drawn(("without_gan",), trials=(0, 1), enlarge=1.0)
    tests = [set(arms_of(one)["without_gan"].tests["test"]) for one in plans.values()]
    assert tests[0] == tests[1]
    assert abs(len(tests[0]) - 0.2 * len(images.names)) <= 2
    groups = splits.group(images.patients, images.digests)
    sides = [set(groups[one.record["subset"]]) for one in plans.values()]
    assert not sides[0] & sides[1]
    assert not {groups[row] for row in tests[0]} & (sides[0] | sides[1])
    record = plan.record(plans, list(images.names))[0]["disjoint"]
    everything = [*record["subset"], *record["test"], *record["excluded"]]
    assert sorted(everything) == sorted(images.names)
    assert record["disjoint_from_earlier_trials"] is True


@pytest.mark.parametrize("protocol", ["clean", "disjoint", "patient_kfold"])
def test_inner_patients_are_neither_trained_on_nor_tested_nor_seen_by_a_gan(protocol):
    c = default.get_config()
    c.evaluate.inner = 0.25
    plans, images, _ = drawn(("without_gan", "generated_only"), (protocol,), evaluate=c.evaluate)
    one = plans[0, protocol]
    arm, groups = arms_of(one)["without_gan"], splits.group(images.patients, images.digests)
    inner = {groups[row] for row in arm.tests["inner"]}
    assert set(images.labels[arm.tests["inner"]]) == {0, 1}
    others = (arm.train, one.seen_by_gan, arm.tests["test"], arm.tests["unseen"])
    assert not any(inner & {groups[row] for row in rows} for rows in others)
    assert one.record["inner"].tolist() == sorted(arm.tests["inner"])


def test_permuted_labels_go_by_patient_and_keep_their_number():
    _, images, c = drawn(("without_gan",), enlarge=1.0)
    labels = plan.labels_for_gans(images, c)
    groups = splits.group(images.patients, images.digests)
    assert labels["generated"].tolist() == images.labels.tolist()
    assert all(len(set(labels["permuted"][groups == own])) == 1 for own in groups)
    heads = np.unique(groups)
    assert sorted(labels["permuted"][heads]) == sorted(images.labels[heads])
    share = np.mean(labels["permuted"] == images.labels)
    assert 0.35 < share < 0.75  # by chance 0.53; the same label for all would be 1


def test_each_seed_of_the_gans_has_images_and_arms_of_its_own():
    plans, images, c = drawn((*CONTROLS, "with_gan"), seeds=2)
    one, world = plans[0, "disjoint"], plan.world(images, plans, c.data.classes)
    of_seed = [[stage.arm for stage in one.arms if stage.gan_seed == seed] for seed in (0, 1)]
    assert of_seed[1] == ["generated", "permuted", "shuffled", "with_gan"]
    assert of_seed[0] == [*CONTROLS, "with_gan"]
    rows = [set(one.arms[Stage(0, "disjoint", arm="with_gan", gan_seed=seed)].train) for seed in (0, 1)]
    real = set(arms_of(one)["without_gan"].train)
    assert rows[0] & rows[1] == real
    assert sorted(world.names[row] for row in rows[1] - real)[0] == "generated/NORMAL/180"  # behind those of seed 0
    stages = one.gan_stages(gan.load("dcgan"), c.data.classes)
    assert [stage.name for stage in stages] == [
        f"trial0/disjoint/{name}"
        for name in (
            *("gan_normal", "gan_pneumonia", "gan_normal.permuted", "gan_pneumonia.permuted"),
            *("gan1_normal", "gan1_pneumonia", "gan1_normal.permuted", "gan1_pneumonia.permuted"),
        )
    ]


def test_a_copy_is_its_image_moved_a_little_and_always_the_same():
    images = phantom.load(default.get_config().data, 64).pixels[:6]
    copies = np.array([(-1, -1), (3, 0), (3, 1), (5, 0)], np.int32)
    generated = np.zeros((4, 32, 32), np.uint8)
    table = Table(np.asarray(images), np.zeros(10, np.int32), generated, copies)
    found = tables.images(table, np.arange(10))
    assert found[:6].tolist() == np.asarray(images).tolist()
    assert not found[6].any()
    again = tables.images(table, np.array([8, 9, 2, 7]))
    assert again.tolist() == found[[8, 9, 2, 7]].tolist()
    assert not np.array_equal(found[7], found[8])

    for row, source in ((7, 3), (8, 3), (9, 5)):
        assert not np.array_equal(found[row], images[source])
        assert np.corrcoef(found[row].ravel(), images[source].ravel())[0, 1] > 0.6
    marks = np.zeros((20, 64, 64), np.uint8)
    marks[:, 28:36, 12:20] = 255
    moved = np.asarray(augment.copies(marks, np.arange(20))).astype(float)
    centres = np.stack([(moved.sum(axis) * np.arange(64)).sum(1) / moved.sum((1, 2)) for axis in (2, 1)], 1)
    far = np.abs(centres - [31.5, 15.5]).max(0)
    assert (far > 1).all()
    assert (far < 4 + 16 * 0.05 + 16 * np.sin(np.deg2rad(5)) + 1).all()  # shift, zoom, rotation, rounding


def test_a_step_takes_a_batch_of_real_images_in_the_same_order_and_one_of_the_extra_ones():
    system = finetune.prepare(configs.frozen(configs.load("configs/demo.py", ["--config.classifier.batch_size=4"])))
    stage = Stage(0, "disjoint", arm="one")
    nothing = np.zeros(0, int)
    plain = finetune.Fit(stage, np.arange(20), nothing, nothing, 6, nothing, {}, 1, 2, False, nothing)
    with_extra = plain._replace(extra=np.arange(100, 108))
    jobs = [finetune.job_of(system, system.recipe({}), fit, None, None) for fit in (plain, with_extra)]
    assert jobs[0].rows.shape == (6, 4)
    assert jobs[1].rows[:, :4].tolist() == jobs[0].rows.tolist()
    assert np.sort(jobs[1].rows[:2, 4:].ravel()).tolist() == list(range(100, 108))
    assert jobs[1].rows[:, 4:].min() == 100


@pytest.fixture(scope="module")
def done(tmp_path_factory, tiny_flags):
    """A study with two seeds of everything."""
    given = {
        "trials": "(0,)",
        "protocols": "('disjoint',)",
        "arms": "('without_gan','duplicated','low_resolution','classical','generated','permuted','shuffled')",
        "gan.seeds": "2",
        "classifier.seeds": "2",
        "evaluate.inner": "0.25",
        "data.subset": "(20,30)",
    }
    flags = [*tiny_flags, *(f"--config.{field}={value}" for field, value in given.items())]
    return run.load(runs.finish(flags, tmp_path_factory.mktemp("controls") / "run"))


@pytest.mark.slow
def test_all_seeds_are_in_results_and_predictions(done):
    arms = done.results["protocols"]["disjoint"]
    seeds = {name: [(t["gan_seed"], t["classifier_seed"]) for t in arm["trials"]] for name, arm in arms.items()}
    both, four = [(0, 0), (0, 1)], [(0, 0), (0, 1), (1, 0), (1, 1)]
    made = ("generated", "permuted", "shuffled")
    assert seeds == {name: four if name in made else both for name in arms}
    assert arms["generated"]["also"] == ["low_resolution", "classical", "permuted", "shuffled"]
    columns = ("arm", "gan_seed", "classifier_seed", "part")
    rows = set(zip(*(done.predictions[name] for name in columns), strict=True))
    assert len(rows) == 2 * (3 * 4 + 4 * 2)  # test and inner
    assert len(done.stages()) == 3 * 4 + 4 * 2


@pytest.mark.slow
def test_the_low_resolution_images_and_what_gans_made_are_what_was_trained_on(done):
    """Two arms of the same initial values and order differ by their extra images alone, and do differ."""
    logits = {}
    names = zip(*(done.predictions[n] for n in ("arm", "gan_seed", "classifier_seed", "part")), strict=True)
    for key, logit in zip(names, done.predictions["logit_pneumonia"], strict=True):
        if key[1:] == (0, 0, "test"):
            logits.setdefault(key[0], []).append(logit)
    assert len({json.dumps(values) for values in logits.values()}) == len(logits) == 7


@pytest.mark.slow
def test_permuted_gans_have_their_sheets_and_losses(done):
    stages = {stage.name for stage, metric in done.curves if stage.gan}
    assert {"trial0/disjoint/gan_normal.permuted", "trial0/disjoint/gan1_pneumonia"} <= stages
    assert len(stages) == 8
    losses = done.results["gan"]["losses"]
    assert any(name.startswith("trial0/disjoint/gan1_normal.permuted/") for name in losses)
