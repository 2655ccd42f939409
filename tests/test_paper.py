"""The whole paper in one command: the configs of its networks, one page of their runs, GANs made once."""

import re

import pytest
from invented import answers_of, run_of
from runs import call, error_of, load

from experiments.paper import __main__ as command
from experiments.paper import page
from pneumojax import config as configs
from pneumojax import loop, paper
from pneumojax.errors import Diverged
from pneumojax.gan.drawing import Recipe

SMALL = {  # one trial of the shrunk demo, with pictures that AlexNet takes
    "trials": "(0,)",
    "arms": "('without_gan', 'with_gan')",
    "model.image_size": 64,
    "classifier.steps": 2,
    "classifier.save_every": 2,
}


def test_networks_are_taken_from_the_files_beside_the_base_or_from_the_base_itself():
    found = command.configs_of("configs/resnet18_cpu.py", ["--config.data.dir=.", "--config.seed=7"])
    assert list(found) == list(paper.TABLE_1)
    assert {name: (c.model.name, c.seed) for name, c in found.items()} == {name: (name, 7) for name in paper.TABLE_1}
    assert found["squeezenet"].classifier.mode == "head"  # as its file says
    same = command.configs_of("configs/demo.py", [])
    assert {c.model.width for c in same.values()} == {8}
    assert [c.model.name for c in same.values()] == list(paper.TABLE_1)


@pytest.mark.parametrize(
    ("file", "flags", "words", "details"),
    [
        ("demo", ["--config.protocols=('clean',)"], "config.protocols=('clean',)", []),
        ("demo", ["--config.arms=('without_gan',)"], "the arms with_gan and without_gan", []),
        ("resnet18_mine", [], "the configs of alexnet and googlenet differ", ["config.seed: 0 there, 3 now"]),
        ("resnet18_wrong", [], "config.model.name='resnet18'; 'alexnet' is wanted there", []),
    ],
)
def test_configs_that_make_no_paper_are_refused(tmp_path, file, flags, words, details):
    text = "from configs import demo\n\n\ndef get_config():\n    c = demo.get_config()\n    {}\n    return c\n"
    for network in paper.TABLE_1:
        fields = f"c.model.name, c.seed = '{network}', {3 if network == 'googlenet' else 0}"
        (tmp_path / f"{network}_mine.py").write_text(text.format(fields))
        (tmp_path / f"{network}_wrong.py").write_text(text.format("c.seed = 0"))
    base = f"configs/{file}.py" if file == "demo" else tmp_path / f"{file}.py"
    line, *found = error_of(call(command.main, f"--config={base}", f"--workdir={tmp_path / 'run'}", *flags), 2)
    assert words in line
    assert found == details
    assert not (tmp_path / "run").exists()


def test_no_config_is_one_line():
    assert "--config is missing" in error_of(call(command.main), 2)[0]


def test_it_says_which_network_is_run_and_one_that_diverges_holds_up_no_other(tmp_path, monkeypatch, capsys):
    def run(config, workdir):
        if workdir.name == "squeezenet":
            raise Diverged(f"{workdir}: diverged", ["trial 0"])

    monkeypatch.setattr(command.study, "run", run)
    monkeypatch.setattr(command.runs, "load", lambda workdir: workdir)
    monkeypatch.setattr(command.page, "write", lambda found, folder: None)
    line, *details = error_of(call(command.main, "--config=configs/demo.py", f"--workdir={tmp_path}"), 3)
    assert line == f"{tmp_path}: 1 of 4 networks' runs diverged in part"
    assert details == [f"{tmp_path}/squeezenet: diverged", "trial 0"]
    told = [f"{network}, network {number} of 4" for number, network in enumerate(paper.TABLE_1, 1)]
    assert capsys.readouterr().out.splitlines() == [*told, f"{tmp_path}/paper.html"]


def test_the_page_has_the_papers_figures_beside_ours(tmp_path):
    run = run_of(tmp_path / "run", answers_of())
    page.write({"alexnet": run, "resnet18": run}, tmp_path)
    text = re.sub(r"base64,[^\"]+", "", (tmp_path / "paper.html").read_text())
    assert "SqueezeNet, GoogLeNet will follow" in text
    titles = re.findall(r"<h2>(.*?)</h2>", text)
    assert [title.partition(":")[0] for title in titles] == [
        *("Figure 6", "Figure 7", "Figure 10", "Table 1", "Table 2", "Table 3")
    ]
    rows = page.table("Table 2", "", paper.TABLE_2_COLUMNS, paper.TABLE_2, {"resnet18": run})["blocks"][1]["table"][
        "rows"
    ]
    printed, *ours = rows
    assert [cell[0] for cell in printed["cells"]] == ["98.97", "98.97", "98.97"]
    arm = run.results["protocols"]["paper"]["with_gan"]
    assert ours[0]["lead"][2] == page.ESTIMANDS["paper", "with_gan", "test"]
    assert [cell[0].split()[0] for cell in ours[0]["cells"]] == [
        f"{100 * arm['mean'][score]:.1f}" for score in paper.TABLE_2_COLUMNS
    ]
    assert len({row["lead"][2] for row in rows}) == len(rows)  # each says another thing that it is a figure of
    third = {row["lead"][0]: row["cells"] for row in page.table_3({"resnet18": run})["blocks"][1]["table"]["rows"]}
    assert third["the paper"][0][0].startswith(f"{100 * arm['mean']['accuracy']:.1f} ± ")
    assert "configs/wu2020.py" in third["Wu 2020"][0][1]
    note = page.table("Table 1", "", paper.TABLE_1_COLUMNS, paper.TABLE_1, {"squeezenet": run})["blocks"][-1]["note"]
    assert note == "Misprints in the paper, and what its matrices prove: SqueezeNet, accuracy: 94.7."


def test_the_page_names_who_has_diverged(tmp_path):
    run = run_of(tmp_path / "run", answers_of())
    run.results["protocols"]["clean"]["with_gan"]["diverged"] = {"trial": 1, "step": 2, "metric": "loss"}
    page.write({"squeezenet": run}, tmp_path)
    title = run.results["protocols"]["clean"]["with_gan"]["title"]
    assert f"<b>Diverged:</b> SqueezeNet, clean, {title}, trial 1." in (tmp_path / "paper.html").read_text()


@pytest.mark.slow
@pytest.mark.long
def test_four_networks_make_their_gans_once_and_go_on_where_they_stopped(tiny_flags, tmp_path, monkeypatch):
    trained, advance = [], loop.advance
    monkeypatch.setattr(loop, "advance", lambda *args: trained.append(type(args[5])) or advance(*args))
    config, *flags = tiny_flags
    flags += [*(f"--config.{field}={value}" for field, value in SMALL.items()), "--config.gan.cache="]
    arguments = [config, f"--workdir={tmp_path}", *flags]
    assert call(command.main, *arguments)[0] == 0
    assert trained.count(Recipe) == 4 * 6  # a state a class and protocol, six steps
    assert {load(tmp_path / name)["model"] for name in paper.TABLE_1} == set(paper.TABLE_1)
    splits = {(tmp_path / name / "splits.json").read_bytes() for name in paper.TABLE_1}
    assert len(splits) == 1
    steps, whole = len(trained), (tmp_path / "paper.html").read_bytes()
    (tmp_path / "paper.html").unlink()
    assert call(command.main, *arguments)[0] == 0
    assert (len(trained), (tmp_path / "paper.html").read_bytes()) == (steps, whole)
    assert configs.load("configs/demo.py", flags).gan.cache == ""  # and so below the workdir
    assert len(list((tmp_path / "gans" / "gan").iterdir())) == 4
