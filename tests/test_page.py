"""The page's sections beside its tables: figures by what they draw, worst errors, cost; the page as a whole."""

import copy
import html
import re

import invented
import numpy as np
import pytest
from answers import prediction
from invented import CLASSES, ENVIRONMENT, answers_of, run_of
from PIL import Image
from sklearn.metrics import roc_auc_score

from pneumojax import report
from pneumojax.evaluate.mistakes import mistakes
from pneumojax.gan import pictures
from pneumojax.report import answers, contrasts, cost, forest_plot, matrices, reliability, roc, scores, tables, worst
from pneumojax.stage import Stage

HOSTILE = ("<script>$x$", "_b&\"'")


@pytest.fixture(scope="module")
def predictions():
    return answers_of()


@pytest.fixture(scope="module")
def run(tmp_path_factory, predictions):
    return run_of(tmp_path_factory.mktemp("run"), predictions)


@pytest.fixture(scope="module")
def older(run):
    return invented.older(run)


# Contrasts and the forest plot


def test_an_interval_of_a_difference_ends_where_none_can_be_greater(run):
    """That of three trials by t does not: nobody's accuracy changes by 160 points."""
    wide = run._replace(results=copy.deepcopy(run.results))
    for row in wide.results["contrasts"]:
        row["procedure"]["interval"] = [-1.6, 0.5]
    assert "[-100.0, +50.0]" in str(contrasts.section(wide)["blocks"][1])
    assert {tuple(line.procedure) for line in forest_plot.differences_of(wide, "auc")} == {(-100, 50)}
    heads, rows = (contrasts.section(run)["blocks"][1]["table"][key] for key in ("heads", "rows"))
    assert {row["lead"][heads.index("score")] for row in rows} == {"accuracy", "AUC"}  # as in every other table


def test_a_line_of_the_forest_plot_is_an_estimate_with_both_intervals(run):
    lines = {line.label: line for line in forest_plot.levels_of(run, "auc")}
    assert len(lines) == 2 * 2 + 2 * 4
    own = run.results["protocols"]["paper"]["with_gan"]["test_generated"]
    line = lines["paper · with GAN · test_generated"]
    assert line.value == 100 * own["mean"]["auc"]
    assert line.patients == pytest.approx([100 * bound for bound in own["interval"]["auc"]])
    assert line.procedure == pytest.approx([100 * bound for bound in own["procedure"]["auc"]["interval"]])
    assert "clean · without GAN · test" in lines


def test_contrasts_of_the_forest_plot_are_in_points_and_one_is_declared(run):
    found = {score: forest_plot.differences_of(run, score) for score in forest_plot.SCORES}
    labels = [f"clean · with GAN against without GAN · {part}" for part in ("unseen", "test")]
    assert {score: [line.label for line in own] for score, own in found.items()} == dict.fromkeys(found, labels)
    assert [(score, line.label) for score, own in found.items() for line in own if line.declared] == [
        ("accuracy", labels[0])
    ]
    [row] = [row for row in run.results["contrasts"] if row["declared"]]
    assert found["accuracy"][0].value == 100 * row["difference"]
    assert found["accuracy"][0].procedure == pytest.approx([100 * bound for bound in row["procedure"]["interval"]])
    assert found["accuracy"][0].seeds is None
    row["same_procedure"] = {"difference": 0.02}
    assert forest_plot.differences_of(run, "accuracy")[0].seeds == 2
    row["same_procedure"] = None


def test_without_trials_enough_the_thin_line_is_missing(older):
    assert {line.procedure for line in forest_plot.levels_of(older, "auc")} == {None}
    assert {line.procedure for line in forest_plot.differences_of(older, "accuracy")} == {None}
    assert forest_plot.differences_of(older, "auc") == []


# ROC


def test_the_mean_curve_lies_between_those_of_networks_and_has_their_mean_area(run):
    curves = roc.curves_of(run, "clean", "unseen")
    assert list(curves) == ["without_gan", "with_gan"]
    for name, line in curves.items():
        area = run.results["protocols"]["clean"][name]["unseen"]["mean"]["auc"]
        assert np.trapezoid(line, roc.GRID) == pytest.approx(area, abs=0.005)
        assert (np.diff(line) >= 0).all()
        assert line[-1] == 1


def test_networks_of_one_trial_count_together_as_one_of_another():
    labels = np.arange(40) % 2
    sharp, blunt = prediction(labels, labels * 9.0), prediction(labels, labels * 0.0)
    line = roc.mean_curve([sharp, blunt._replace(trial=1), blunt._replace(trial=1, classifier_seed=1)])
    np.testing.assert_allclose(line, (1 + roc.GRID) / 2)  # halfway from the corner to the diagonal


def test_a_curve_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 3000)
    margins = np.round(labels + rng.normal(size=3000), 1)  # with ties
    area = np.trapezoid(roc.mean_curve([prediction(labels, margins)]), roc.GRID)
    assert area == pytest.approx(roc_auc_score(labels, margins), abs=2e-3)


def test_operating_points_are_those_of_the_results(run):
    points = roc.points_of(run, "clean", "unseen")
    assert {name: list(own) for name, own in points.items()} == dict.fromkeys(points, list(roc.POINTS))
    rows = roc.rows_of(run, {("clean", "unseen"): points})
    assert len(rows) == 2 * 4
    told = run.results["protocols"]["clean"]["without_gan"]["unseen"]["operating"]["sens90"]
    assert rows[0]["cells"][0][0] == f"{told['threshold']:.3f}"
    assert rows[0]["cells"][2][0] == f"{100 * told['recall_pneumonia']:.1f}"
    [shown] = [block for block in roc.section(run)["blocks"] if "table" in block]  # predict's are after a temperature
    assert "probability before temperature" in shown["table"]["heads"]
    assert "its --threshold takes a name, as sens95, and not these numbers" in roc.section(run)["blocks"][0]["note"]
    assert roc.points_of(run, "paper", "unseen") == {}
    assert "kept from this network" in roc.why_none(run, [("paper", "unseen")])


def test_three_classes_and_one_alone_have_no_curves(tmp_path):
    kinds = ("A", "B", "C")
    three = run_of(tmp_path / "three", answers_of(kinds, parts={"clean": ("test",)}, images=30), kinds)
    assert roc.section(three) is reliability.section(three) is None
    whole = answers_of(parts={"clean": ("test",)})
    alone = [p._replace(labels=np.ones_like(p.labels)) for p in whole]
    assert roc.section(run_of(tmp_path / "one", alone)) is None


# Reliability


def test_reliability_is_drawn_as_the_results_have_it(run):
    found = reliability.told(run, "clean", "unseen", "calibration")["with_gan"]
    lines = reliability.lines_of(found)
    assert list(lines) == ["before", "after"]
    for kind, (predicted, observed) in lines.items():
        assert [[*pair] for pair in zip(predicted, observed, strict=True)] == [
            b[:2] for b in found[kind]["reliability"]
        ]
    rows = reliability.rows_of(run, {("clean", "unseen"): {"with_gan": found}})
    assert rows[1]["cells"][0] == (f"{found['after']['temperature']:.2f}",)
    assert rows[1]["cells"][1] == (f"{found['after']['ece']:.3f}",)
    assert rows[0]["cells"][2][0] == f"{found['before']['slope']:.2f}"


def test_without_an_inner_part_it_is_said_why_there_is_no_temperature(run):
    found = reliability.told(run, "paper", "unseen", "calibration")
    rows = reliability.rows_of(run, {("paper", "unseen"): found})
    assert "no part of the training patients was kept" in rows[1]["lead"][3]
    assert rows[1]["cells"] == [("–",)] * 4


def test_every_figure_has_a_panel_for_each_protocol(run):
    parts = answers.main_parts(run)
    assert parts == {"clean": "unseen", "paper": "unseen"}
    curves = {where: roc.curves_of(run, *where) for where in parts.items()}
    figure = roc.draw(run, curves, {where: roc.points_of(run, *where) for where in curves})
    assert [axes.get_title() for axes in figure.axes] == ["clean, unseen", "paper, unseen"]
    assert len(figure.axes[0].lines) == 1 + 2 + 2 * 4 + 4  # diagonal, arms, their points, the legend's marks
    worth = {where: reliability.told(run, *where, "decision_curve") for where in parts.items()}
    labels = [line.get_label() for line in reliability.draw_worth(run, worth).axes[0].lines]
    assert labels == ["‘without GAN’", "‘with GAN’", "treat all", "treat none"]


# Worst errors


def test_the_worst_error_is_the_surest_in_the_mean_of_the_networks():
    labels = [0, 1, 1, 0]
    first = prediction(labels, [4.0, 3.0, -2.0, 0.1])  # wrong about 0, 2 and 3
    second = prediction(labels, [-1.0, 3.0, -2.0, 0.1])._replace(trial=1)
    found = mistakes([first, second], 12)
    assert [(one.name, one.label, one.said, one.networks) for one in found] == [
        *(("image2", 1, 0, 2), ("image0", 0, 1, 2), ("image3", 0, 1, 2)),
    ]
    chance = 1 / (1 + np.exp([-4.0, 1.0]))
    assert found[1].chance == pytest.approx(chance.mean())
    assert [one.name for one in mistakes([first, second], 1)] == ["image2"]
    assert mistakes([prediction(labels, [-1.0, 1.0, 1.0, -1.0])], 12) == []


def test_equal_ones_are_in_the_order_of_their_names():
    names = ["b", "c", "a"]
    assert [one.name for one in mistakes([prediction([0, 0, 0], [2.0] * 3, names=names)], 3)] == ["a", "b", "c"]


def test_whose_errors_are_shown(run):
    assert worst.where({"paper": {"test", "unseen", "test_generated"}, "clean": {"test", "unseen"}}) == (
        *("clean", "unseen"),
    )
    assert worst.where({"paper": {"test", "unseen", "test_generated"}}) == ("paper", "unseen")
    assert worst.where({"paper": {"test", "test_generated"}}) is None
    assert worst.where({"patient_kfold": {"test"}}) == ("patient_kfold", "test")
    arms = run.results["protocols"]["clean"]
    assert answers.chosen(arms, ("clean", "unseen", "with_gan")) == ["without_gan", "with_gan"]
    assert answers.chosen(arms, ("clean", "unseen", "another")) == ["without_gan"]
    assert answers.chosen({"with_gan": arms["with_gan"]}, ("clean", "unseen", "with_gan")) == ["with_gan"]


def shown(name: str) -> int:
    """The gray level of the test's image of a name."""
    return 5 * int(name.rpartition("/")[2].partition(".")[0])


def written(run, predictions, size=8):
    def pixels(names):
        return np.stack([np.full((size, size), shown(name), np.uint8) for name in names])

    worst.write(run.workdir, run.config, run.results["protocols"], predictions, pixels)


def test_a_sheet_shows_the_images_that_the_table_names(tmp_path, predictions):
    run = run_of(tmp_path, predictions)
    written(run, predictions)
    paths = sorted((tmp_path / "samples").iterdir())
    assert [path.name for path in paths] == ["worst-clean-with_gan.png", "worst-clean-without_gan.png"]
    before = [path.read_bytes() for path in paths]
    written(run, predictions)
    assert [path.read_bytes() for path in paths] == before
    section = worst.section(run)
    tabled = [block["table"]["rows"] for block in section["blocks"] if "table" in block]
    assert [len(rows) for rows in tabled] == [12, 12]
    sheet = pictures.read(paths[0])
    side = pictures.scale_of(8) * 8 + 2 * pictures.GAP
    tops, lefts = (
        [pictures.STRIP + side // 2 + row * (pictures.STRIP + side + pictures.GUTTER) for row in (0, 1)],
        [side // 2 + column * (side + pictures.GUTTER) for column in range(6)],
    )
    assert [sheet[y, x] for y in tops for x in lefts] == [shown(row["lead"][1]) for row in tabled[1]]
    assert len([block for block in section["blocks"] if "pictures" in block]) == 2
    assert section["blocks"][0]["note"].endswith("mind its licence before sharing.")


def test_a_sheet_of_other_images_is_not_shown(tmp_path, predictions):
    """As the sheets of one of several runs that were merged."""
    alone = run_of(tmp_path, [p for p in predictions if p.trial == 0])
    written(alone, [p for p in predictions if p.trial == 0])
    merged = run_of(tmp_path, predictions)
    section = worst.section(merged)
    assert not any("pictures" in block for block in section["blocks"])
    assert "licence" not in section["blocks"][0]["note"]
    assert len([block for block in section["blocks"] if "table" in block]) == 2


def test_where_nothing_is_wrong_that_is_said_and_nothing_written(tmp_path):
    labels = np.arange(20) % 2
    right = [prediction(labels, 4.0 * labels - 2, arm=arm, part="test") for arm in ("without_gan", "with_gan")]
    run = run_of(tmp_path, right)
    written(run, right)
    assert not (tmp_path / "samples").exists()
    assert [block["note"] for block in worst.section(run)["blocks"][1:]] == [
        f"clean, {title} GAN, test: no image is said wrongly in the mean." for title in ("without", "with")
    ]


# Cost


def test_cost_by_stage_and_what_it_was_made_with(run):
    curves = {
        (Stage(0, "clean", gan="normal"), "d_loss"): {100: 0.1, 300: 0.1},
        (Stage(0, "clean", gan="normal"), "g_loss"): {100: 0.1, 300: 0.1},
        (Stage(0, "clean", arm="with_gan"), "loss"): {49: 0.1, 90: 0.1},
    }
    stages, made = (block["table"] for block in cost.section(run._replace(curves=curves))["blocks"][1:])
    told = {row["lead"][0]: (row["lead"][1], *(cell[0] for cell in row["cells"])) for row in stages["rows"]}
    assert told == {
        "images decoded": ("", "1.0", "10%", ""),
        "GANs trained, images generated": ("1 GANs, 300 steps of 128 images", "6.0", "60%", "6,400"),
        "classifiers trained, images classified": ("1 networks, 90 steps of 10 images", "3.0", "30%", "300"),
        "all": ("", "10.0", "", ""),
    }
    assert {row["lead"][0]: row["lead"][1] for row in made["rows"]} == {
        **{"commit": "0123abc", "digest of the code": "89ef", "pneumojax": "0.1.0", "Python": "3.13.1"},
        **{"packages": "jax 0.12.0", "devices": "2 × cpu"},
    }
    seconds = {"gan": 6.0, "gan_compile": 2.0, "classifier": 4.0}
    of = run._replace(curves=curves, results=run.results | {"timings_s": seconds})
    rows = [
        [*row["lead"], *(cell[0] for cell in row["cells"])] for row in cost.section(of)["blocks"][1]["table"]["rows"]
    ]
    assert [rows[0][2:], rows[1], rows[3]] == [
        ["6.0", "60%", "9,600"],
        ["GANs trained, images generated: of these, compiling", "", "2.0", "20%", ""],
        ["all", "", "10.0", "", ""],
    ]
    assert cost.versions({"peak_memory_gb": {"host": 1.5}})["peak memory"] == "host 1.50 GB"
    assert cost.versions(ENVIRONMENT | {"code": {}})["commit"] == "none: not a checkout"


# Tables and the page


def test_a_cell_has_both_estimands(run, older):
    arm = run.results["protocols"]["clean"]["with_gan"]
    summary, (value, a, b) = arm["unseen"], tables.cell(arm, "unseen", "accuracy")
    assert a == "(a) [{:.1f}, {:.1f}]".format(*(100 * bound for bound in summary["interval"]["accuracy"]))
    assert b == "(b) [{:.1f}, {:.1f}]".format(*(100 * x for x in summary["procedure"]["accuracy"]["interval"]))
    assert tables.cell(older.results["protocols"]["clean"]["with_gan"], "unseen", "accuracy") == (value, a, "")
    alone, _, _ = tables.cell(arm | {"trials": arm["trials"][:1]}, "unseen", "accuracy")
    assert " ± " in value
    assert alone == value.partition(" ± ")[0]
    assert tables.cell({}, "unseen", "accuracy") == ("–", "", "")
    table = scores.section(run)["blocks"][1]["table"]
    assert table["rows"][0]["lead"] == ["clean", "without GAN", "test", "3 × 40", "0 of 3"]
    assert "made before it was computed" in scores.section(older)["blocks"][0]["note"]


def test_one_trial_has_no_deviation_and_no_gan_is_named_where_none_was_trained(run, tmp_path):
    one = run_of(tmp_path, [p for p in answers_of() if p.trial == 0])
    first = scores.section(one)["blocks"][1]["table"]["rows"][0]["cells"][0][0]
    assert re.fullmatch(r"\d+\.\d", first)
    assert " ± " in scores.section(run)["blocks"][1]["table"]["rows"][0]["cells"][0][0]
    assert "GAN: <code>" not in page_of(one)
    one.results["gan"]["losses"] = {"trial0/clean/gan_normal/d_loss": {"step": 1, "value": 1.0}}
    assert "GAN: <code>dcgan</code>" in page_of(one)


def page_of(run) -> str:
    report.write(run, run.workdir)
    return (run.workdir / "report.html").read_text()


def test_the_page_begins_with_its_headline_and_keeps_the_order(run):
    page = page_of(run)
    titles = re.findall("<h2>(.*?)</h2>", page)
    assert titles[0].startswith("Undecided: ‘with GAN’ against ‘without GAN’ has ")
    assert titles[1:] == [
        *("Arms and contrasts", "Scores", "Contrasts", "ROC curves", "Reliability", "Worst errors"),
        *("Cost, code and machine", "The paper&#39;s tables", "Confusion matrices", "Losses"),
        "Config, environment, time",
    ]
    assert page_of(run) == page  # to the byte
    assert all(re.findall('<img alt="(.*?)"', page))
    assert page.count("<table>") == page.count('<div class="scroll"><table>')
    assert not re.search(r"\b(nan|NaN|None)\b", re.sub('base64,[^"]*|<pre>.*?</pre>', "", page, flags=re.DOTALL))


def test_an_older_run_has_a_page(older):
    titles = re.findall("<h2>(.*?)</h2>", page_of(older))
    assert "Reliability" not in titles
    assert {"ROC curves", "Arms and contrasts", "Worst errors", "Contrasts"} <= {*titles}


def test_reasons_in_cells_of_numbers_are_broken_into_lines(run):
    """On one line they made the column of the arms a word wide, and hid the last one."""
    results = copy.deepcopy(run.results)
    for row in results["contrasts"]:
        row |= {"procedure": None, "procedure_why": "trials share their training images"}
    page = page_of(run._replace(results=results))
    assert "<td>trials share their training images</td>" in page
    assert '<td class="number">trials' not in page
    assert '<td class="number">[' in page


@pytest.mark.filterwarnings("error")
def test_names_are_no_markup_and_no_formulas(tmp_path):
    names = dict(zip(("without_gan", "with_gan"), HOSTILE, strict=True))
    odd = [
        p._replace(names=[f"<b>{name}\u202e$y$" for name in p.names])
        for p in answers_of(HOSTILE, parts={"clean": ("test", "unseen", "inner")})
    ]
    run = run_of(tmp_path, odd, HOSTILE, titles=names)
    written(run, [p._replace(names=[name.removesuffix("\u202e$y$") for name in p.names]) for p in odd])
    page = page_of(run)
    assert "<script>" not in page
    assert "<b>train" not in page
    assert "\u202e" not in page
    assert html.escape(HOSTILE[0]) in page
    with Image.open(tmp_path / "samples/worst-clean-with_gan.png") as sheet:
        assert sheet.width > 100


def test_every_class_of_three_has_a_page_without_curves(tmp_path):
    kinds = ("A", "B", "C")
    page = page_of(run_of(tmp_path, answers_of(kinds, parts={"clean": ("test",)}, images=30), kinds))
    assert "Worst errors" in page
    assert not re.search("PNEUMONIA|ROC", page.partition("Config, environment, time")[0])
    assert CLASSES[1] not in page.partition("Config, environment, time")[0]


def test_of_many_arms_the_declared_contrast_is_drawn_and_all_are_tabled(tmp_path):
    """With long titles: figures stay drawable."""
    parts = {"clean": ("unseen", "test", "inner")}
    base, titles, many = answers_of(parts=parts), {}, []
    for p in base:
        for copy_of in range(4):
            arm = p.arm if not copy_of else f"{p.arm}_{copy_of}"
            titles[arm] = f"{arm}, {'as many epochs instead of steps ' * 2}"
            many.append(p._replace(arm=arm))
    run = run_of(tmp_path, many, titles=titles)
    section = reliability.section(run)
    assert "Of so many arms" in section["blocks"][0]["note"]
    assert len(section["blocks"][2]["table"]["rows"]) == 8 * 2
    few = reliability.few(run, {("clean", "unseen"): reliability.told(run, "clean", "unseen", "calibration")})
    assert list(few["clean", "unseen"]) == ["without_gan", "with_gan"]
    curves = {("clean", "unseen"): roc.curves_of(run, "clean", "unseen")}
    figure = roc.draw(run, curves, dict.fromkeys(curves, {}))
    figure.draw_without_rendering()
    box = figure.axes[0].get_window_extent()
    assert min(box.width, box.height) > 0.4 * figure.bbox.width  # the legend has not squeezed it


def test_matrices_are_those_of_the_first_seeds_and_say_so():
    def of(number, **seeds):
        return {"trial": 3, "test": 9, "confusion_matrix": [[number, 0], [0, 0]], **seeds}

    several = [of(1, gan_seed=0, classifier_seed=0), of(2, gan_seed=0, classifier_seed=1), of(3, gan_seed=1)]
    assert matrices.matrices({"trials": several}, "test") == {"trial 3": [[1, 0], [0, 0]]}
    assert matrices.matrices({"trials": [of(4)]}, "test") == {"trial 3": [[4, 0], [0, 0]]}
    assert "first seeds" in matrices.NOTE


def test_the_part_of_generated_images_alone_has_rows_in_the_tables(run):
    one = run._replace(results=copy.deepcopy(run.results))
    arm = one.results["protocols"]["clean"]["without_gan"]
    arm["generated"] = arm["unseen"]
    for trial in arm["trials"]:
        trial["generated"] = trial["unseen"]
    rows = [row["lead"] for row in tables.table(one, ("accuracy",), list(tables.PARTS))["rows"]]
    assert [lead[2] for lead in rows if lead[:2] == ["clean", "without GAN"]] == [
        "test",
        "unseen real images outside the subset",
        "generated images alone",
    ]
