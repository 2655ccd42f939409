"""Studies that share a program end as they do alone."""

import json
import resource
import shutil
import signal
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import runs
import safetensors.numpy
from invented import variables_of

from experiments.sweep import ledger, local, one_program
from experiments.sweep.__main__ import main
from experiments.sweep.members import members as members_of
from pneumojax import classify, config, loop, models, pretrained, run, together
from pneumojax.errors import BadInput
from pneumojax.jobs import Job, groups, place_of
from pneumojax.stage import Stage

ONE = ("--config.trials=(0,)", "--config.protocols=('clean',)", "--config.arms=('without_gan','with_gan')")


@pytest.fixture(scope="module")
def head(tmp_path_factory, tiny_flags) -> list[str]:
    """Flags of a study that trains the head of a network alone, on features in memory."""
    variables = variables_of(models.load("squeezenet")(), 48)
    path = tmp_path_factory.mktemp("weights") / "squeezenet.safetensors"
    safetensors.numpy.save_file(pretrained.to_torch(jax.tree.map(np.asarray, variables), "squeezenet"), path)
    own = ("--config.arms=('without_gan',)", "--config.classifier.mode=head", "--config.classifier.standardise=True")
    return [
        *tiny_flags,
        *ONE,
        *own,
        "--config.model.name=squeezenet",
        "--config.model.width=64",
        f"--config.model.weights={path}",
    ]


def members(flags, folder: Path, *of_each: str) -> list:
    loaded = [config.load(flags[0].removeprefix("--config="), [*flags[1:], *own.split()]) for own in of_each]
    return [(one, folder / str(number)) for number, one in enumerate(loaded)]


def logits(workdir: Path) -> np.ndarray:
    found = run.load(workdir).predictions
    return np.array([found["logit_normal"], found["logit_pneumonia"]])


@pytest.mark.slow
def test_whole_networks_end_in_the_bits_of_runs_alone_whatever_their_seeds_and_rates(tmp_path, tiny_flags, monkeypatch):
    """In turn on one device, compiled once: the generated images of two seeds lie behind one another in a table."""
    flags = [*tiny_flags, *ONE]
    own = ["--config.classifier.learning_rate=1e-2 --config.classifier.weight_decay=0.1", "--config.seed=5"]
    both = members(flags, tmp_path / "both", *own, f"{own[0]} --config.classifier.momentum=0.5")
    traced, step = [], classify.train_step

    def counted(*arguments):
        traced.append(1)
        return step(*arguments)

    monkeypatch.setattr(classify, "train_step", counted)
    together.run(both)
    assert len(traced) == 1
    monkeypatch.undo()
    for number, one in enumerate(own):
        alone = runs.finish([*flags, *one.split()], tmp_path / "alone" / str(number))
        assert runs.bits(alone) == runs.bits(both[number][1])
    assert len({json.dumps(runs.bits(workdir)) for _, workdir in both}) == 3
    together.run(both)  # finds them whole


@pytest.mark.slow
def test_a_study_that_cannot_be_is_named_and_the_others_go_on(tmp_path, tiny_flags, single):
    """No split can be drawn by seed 10. The other study was killed before it wrote its results."""
    flags = [*tiny_flags, "--config.trials=(0,)"]
    both = members(flags, tmp_path, "--config.seed=10", "--config.seed=0")
    shutil.copytree(single(0), both[1][1])
    (both[1][1] / "results.json").unlink()
    with pytest.raises(BadInput, match=f"{both[0][1]}: the test part of a split has no NORMAL image"):
        together.run(both)
    assert runs.bits(both[1][1]) == runs.bits(single(0))
    assert not (both[0][1] / "config.json").exists()


def test_a_job_of_several_runs_is_told_with_its_run(tmp_path):
    jobs = [
        Job(Stage(0, "clean", arm="without_gan"), None, np.zeros((2, 3)), None, place_of(tmp_path / name))
        for name in ("one", "other")
    ]
    one, other = groups(jobs, together=False)
    assert other.told(jobs) == ("job 2 of 2, other/trial0/clean/without_gan", 6)
    assert one.told(jobs[:1])[0] == "job 1 of 1, trial0/clean/without_gan"


def test_a_program_of_many_members_may_open_as_many_files_as_the_system_allows(tmp_path, monkeypatch):
    """Each member holds three, and shells allow 1,024."""
    ledger.claim(ledger.sweep_of(tmp_path, "configs/demo.py", [], members_of("configs/demo.py", [], "seed=0")))
    before, found = resource.getrlimit(resource.RLIMIT_NOFILE), []
    monkeypatch.setattr(together, "run", lambda _: found.append(resource.getrlimit(resource.RLIMIT_NOFILE)))
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[0] // 2, before[1]))
    try:
        assert runs.call(one_program.main, tmp_path) == (0, "")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert found == [(before[1], before[1])]


@pytest.mark.slow
def test_heads_are_an_axis_of_one_program_and_go_on_after_a_signal(tmp_path, head, monkeypatch):
    own = [f"--config.classifier.learning_rate={rate} --config.classifier.seeds=2" for rate in (1e-3, 1e-2)]
    alone = [runs.finish([*head, *one.split()], tmp_path / f"alone{n}") for n, one in enumerate(own)]
    expected = [logits(workdir) for workdir in alone]
    both, widths, advance = members(head, tmp_path / "both", *own), [], loop.advance

    def interrupted(states, keys, *rest):
        widths.append(len(keys))
        if len(widths) == 3:
            signal.raise_signal(signal.SIGTERM)
        return advance(states, keys, *rest)

    monkeypatch.setattr(loop, "advance", interrupted)
    with pytest.raises(SystemExit) as ended:
        together.run(both)
    assert ended.value.code == 143
    together.run(both)
    assert widths == [4] * 6  # two seeds of two rates; six steps, none of them twice
    for (_, workdir), wanted in zip(both, expected, strict=True):
        found = logits(workdir)
        np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())
        assert (workdir / "report.html").exists()
    assert np.abs(expected[0] - expected[1]).max() > 1e-2 * np.abs(expected[0]).max()


@pytest.mark.slow
def test_a_sweep_of_one_program_is_the_sweep_of_its_members(tmp_path, head):
    grid = "--sweep=classifier.momentum=0.9,0.5"
    assert runs.call(main, *head, grid, f"--out={tmp_path}/out", "--together") == (0, "")
    sweep = ledger.read(tmp_path / "out")
    assert [ledger.state_of(sweep, entry).name for entry in sweep.entries] == ["whole"] * 2
    one = sweep.entries[0]
    alone = runs.finish([head[0], *one.command[1:]], tmp_path / "alone")
    wanted = logits(alone)
    np.testing.assert_allclose(logits(tmp_path / "out" / one.id), wanted, atol=1e-4 * np.abs(wanted).max())
    before = files_of(tmp_path / "out")
    assert runs.call(main, *head, f"{grid},0.8,0.7", f"--out={tmp_path}/out", "--together") == (0, "")
    after = files_of(tmp_path / "out")
    assert {path: after[path] for path in before} == before  # what was whole stays as it was
    assert len({path.parts[0] for path in after}) == 4


def files_of(out: Path) -> dict[Path, bytes]:
    """The files of a sweep's members, by their paths."""
    return {path.relative_to(out): path.read_bytes() for path in out.glob("*/**/*") if path.is_file()}


def test_members_of_one_process_keep_the_logs_of_their_earlier_attempts(tmp_path, monkeypatch):
    sweep = ledger.sweep_of(tmp_path, "configs/demo.py", [], members_of("configs/demo.py", [], "seed=0,1"))
    for entry in sweep.entries:
        ledger.begin(sweep, entry)
        ledger.log_of(sweep, entry).write_text(f"{entry.id}, alone\n")
    monkeypatch.setattr(ledger, "command_of", lambda *_: [sys.executable, "-c", "print('together')"])
    with (tmp_path / "lock").open("w") as lock:
        one = local.start(sweep, sweep.entries, {}, lock.fileno())
    assert [ledger.state_of(sweep, entry).name for entry in sweep.entries] == ["begun"] * 2
    one.process.wait()
    local.ended(sweep, one)
    for entry in sweep.entries:
        assert ledger.log_of(sweep, entry).read_text() == f"{entry.id}, alone\ntogether\n"


def test_members_that_can_share_a_program_are_side_by_side(tmp_path):
    grid = "classifier.momentum=0.9,0.5;classifier.new_layer_rate=10.0,1.0;seed=0,1"
    sweep = ledger.sweep_of(tmp_path, "configs/demo.py", [], members_of("configs/demo.py", [], grid))
    groups = one_program.groups(sweep)
    assert [len(group) for group in groups] == [4, 4]
    for group in groups:
        assert len({entry.fields["classifier.new_layer_rate"] for entry in group}) == 1


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--sweep=data.subset=(12,20),(8,12)",), "no two members can share a program: they differ in data.subset"),
        (("--sweep=enlarge=2,3",), "and may in classifier.learning_rate, classifier.momentum, classifier.schedule"),
        (("--sweep=seed=0,1", "--config.system.name=frozen_probe"), "and may in nothing, with this config.system.name"),
        (("--sweep=seed=0,1", "--jobs=2"), "leave --slurm and --jobs out"),
    ],
)
def test_what_cannot_share_a_program_is_one_line(tmp_path, flags, told):
    answer = runs.call(main, "--config=configs/demo.py", *flags, f"--out={tmp_path}/out", "--together")
    assert told in runs.error_of(answer, 2)[0]
    assert not (tmp_path / "out").exists()
