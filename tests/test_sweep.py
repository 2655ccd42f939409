"""Sweeps. Members are scripts that leave what a study would, but where a test says otherwise."""

import csv
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import invented
import numpy as np
import pytest
import runs

from experiments.sweep import ledger, local, members, page, slurm, table
from experiments.sweep.__main__ import main
from pneumojax import checkpoint
from pneumojax.errors import BadInput

CONFIG = "--config=configs/demo.py"

# What is called in place of Python. Seed 0 and 1 end whole, 2 fails, 3 is killed, 4 waits to be told, 5 diverged.
MEMBER = r"""#!/bin/bash
for word; do case $word in --workdir=*) workdir=${word#*=} ;; --config.seed=*) seed=${word#*=} ;; esac; done
echo "attempt on ${CUDA_VISIBLE_DEVICES-all}" >> "$workdir/attempts"
save() { echo saved; touch "$workdir/saved"; exit 143; }
case $seed in
  0|1) cp RESULTS "$workdir/results.json" ;;
  2) [ -e REPAIRED ] || { echo "error: config.data.dir='gone' is not a directory" >&2; exit 2; }
     cp RESULTS "$workdir/results.json" ;;
  3) kill -9 $$ ;;
  4) [ -e "$workdir/saved" ] || { trap save TERM; touch "$workdir/waits"; while :; do sleep 0.05; done; }
     cp RESULTS "$workdir/results.json" ;;
  5) cp DIVERGED "$workdir/results.json"; exit 3 ;;
esac
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict:
    """results.json of a run whose answers are drawn at random."""
    folder = tmp_path_factory.mktemp("invented")
    return json.loads(
        json.dumps(invented.run_of(folder, invented.answers_of(parts={"clean": ("test", "unseen")})).results)
    )


@pytest.fixture
def fake(tmp_path, monkeypatch, results) -> Path:
    """A folder whose script stands for Python; once `repaired` is in it, what failed is mended."""
    folder = tmp_path / "fake"
    diverged = json.loads(json.dumps(results))
    diverged["protocols"]["clean"]["with_gan"]["diverged"] = {"trial": 0, "step": 1, "metric": "loss"}
    checkpoint.write_json(folder / "results.json", results)
    checkpoint.write_json(folder / "diverged.json", diverged)
    script = MEMBER.replace("RESULTS", str(folder / "results.json")).replace("REPAIRED", str(folder / "repaired"))
    (folder / "python").write_text(script.replace("DIVERGED", str(folder / "diverged.json")))
    (folder / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    return folder


def sweep(out: Path, grid: str, *flags: str) -> tuple[int, str]:
    return runs.call(main, CONFIG, f"--sweep={grid}", f"--out={out}", *flags)


def states(out: Path) -> dict[int, ledger.State]:
    """Seed → state of the member."""
    found = ledger.read(out)
    return {entry.fields["seed"]: ledger.state_of(found, entry) for entry in found.entries}


def attempts(out: Path) -> dict[int, list[str]]:
    """Seed → a line an attempt."""
    return {
        entry.fields["seed"]: (out / entry.id / "attempts").read_text().splitlines()
        for entry in ledger.read(out).entries
    }


def test_a_grid_is_all_combinations_and_fields_joined_go_in_step():
    grid = "arms=('without_gan',),('without_gan', 'with_gan'); seed=0,1&classifier.learning_rate=1e-4,1e-3"
    assert members.of_grid(grid) == [
        {"arms": arms, "seed": seed, "classifier.learning_rate": rate}
        for arms in ("('without_gan',)", "('without_gan', 'with_gan')")
        for seed, rate in (("0", "1e-4"), ("1", "1e-3"))
    ]
    assert members.of_grid("data.patient_pattern='a,b;c',(d|e),[f,g]") == [
        {"data.patient_pattern": pattern} for pattern in ("a,b;c", "(d|e)", "[f,g]")
    ]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("seed=0,1&enlarge=1,2,3", "config.seed has 2, config.enlarge has 3 values; give as many of each"),
        ("seed=0;seed=1", "config.seed twice"),
        ("seed=0&seed=1", "config.seed twice"),
        ("seed", "'seed' is not FIELD=VALUE,VALUE; give FILE.py"),
        ("seed=0,,1", "'seed=0,,1' has an empty value"),
        (";", "is empty"),
        ("clasifier.seeds=1,2", "config.clasifier.seeds is not a field; did you mean config.classifier.seeds?"),
        ("classifier=1,2", "config.classifier is not a field; did you mean config.classifier."),
        ("data.dir='a,b", "\"data.dir='a,b\" has ' without its other one"),
        ("trials=(0,1;seed=0,1", "'trials=(0,1;seed=0,1' has a bracket without its other one"),
        ("seed=0,x", "config.seed='x': give a whole number"),
        ("seed=0,1,0", "members 1 and 3 are of the same config"),
        ("gan.cache=a,b", "members 1 and 2 are of the same config (members are told apart by all fields but data.dir"),
        ("gone.py", "--sweep=gone.py is not there"),
    ],
)
def test_what_is_no_sweep_is_one_line_and_nothing_is_written(tmp_path, given, told):
    line, *_ = runs.error_of(sweep(tmp_path / "out", given), 2)
    assert told in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "name", "told"),
    [
        ("def sweep():\n    return [{'seed': 1}, 2]", "", "sweep() yields 2; give flat dicts of field and value"),
        ("def sweep():\n    yield from ()", "", "sweep() yields nothing"),
        ("def sweep():\n    yield {'seed': 1 / 0}", "", "sweep() cannot be used: ZeroDivisionError"),
        ("def sweep():\n    raise SystemExit(0)", "", "cannot be used: RuntimeError: it ends the process by exit(0)"),
        ("def sweep():\n    yield {}", ":rates", "sweep_rates() cannot be used: AttributeError"),
    ],
)
def test_a_file_that_has_no_sweep_is_named(tmp_path, text, name, told):
    (tmp_path / "mine.py").write_text(text)
    line, *_ = runs.error_of(sweep(tmp_path / "out", f"{tmp_path}/mine.py{name}"), 2)
    assert told in line


def test_a_file_yields_fields_and_sees_other_configs(tmp_path):
    (tmp_path / "mine.py").write_text(
        "def sweep_rates():\n"
        "    from configs import demo\n"
        "    for rate in (1e-3, 1e-2):\n"
        "        name = demo.get_config().data.name\n"
        "        yield {'classifier.learning_rate': rate, 'arms': ['without_gan'], 'data.name': name}\n"
    )
    found = members.members("configs/demo.py", ["--config.seed=5"], f"{tmp_path}/mine.py:rates")
    assert [one.config["classifier.learning_rate"] for one in found] == [1e-3, 1e-2]
    assert all((one.config["seed"], one.config["arms"]) == (5, ["without_gan"]) for one in found)


def test_the_base_is_read_once_whatever_the_number_of_members(tmp_path):
    (tmp_path / "base.py").write_text(
        "from pathlib import Path\nfrom configs import demo\n\nget_config = demo.get_config\n"
        "with Path(__file__).with_name('read').open('a') as file:\n    file.write('once ')\n"
    )
    assert len(members.members(f"{tmp_path}/base.py", [], "seed=0,1,2")) == 3
    assert (tmp_path / "read").read_text() == "once "


def test_the_id_follows_from_the_config_alone():
    one, other = members.members("configs/demo.py", [], "seed=0,1")
    same, *_ = members.members("configs/demo.py", ["--config.gan.cache=elsewhere", "--config.enlarge=3"], "seed=0")
    assert one.id == same.id != other.id
    assert members.members("configs/demo.py", ["--config.enlarge=4"], "seed=0")[0].id != one.id


def test_a_field_is_not_swept_and_set(tmp_path):
    line, *_ = runs.error_of(sweep(tmp_path / "out", "seed=0,1", "--config.seed", "3"), 2)
    assert "config.seed is swept and set for all members as well" in line


def test_a_member_that_fails_or_is_killed_is_named_and_alone_run_again(tmp_path, fake):
    out = tmp_path / "out"
    error, *details = runs.error_of(sweep(out, "seed=0,2,3,1", "--jobs=2"), 137)
    assert "2 of 4 members are not whole" in error
    told = " ".join(details)
    assert "seed=2: failed, exit code 2: error: config.data.dir='gone' is not a directory" in told
    assert "seed=3: failed, exit code 137" in told
    assert {seed: state.name for seed, state in states(out).items()} == {
        0: "whole",
        2: "failed",
        3: "failed",
        1: "whole",
    }
    (fake / "repaired").touch()
    runs.error_of(sweep(out, "seed=0,2,3,1"), 137)
    assert {seed: len(lines) for seed, lines in attempts(out).items()} == {0: 1, 2: 2, 3: 2, 1: 1}
    assert states(out)[2].name == "whole"


def test_a_member_that_was_killed_is_not_blamed_for_the_error_of_an_earlier_attempt(tmp_path):
    found = ledger.sweep_of(tmp_path, "configs/demo.py", [], members.members("configs/demo.py", [], "seed=0"))
    [entry] = found.entries
    ledger.begin(found, entry)
    ledger.log_of(found, entry).write_text("error: config.data.dir='gone' is not a directory\nstep 2/6\n")
    told = {}
    for code in (2, 137, 1):
        ledger.end(found, entry, code)
        told[code] = ledger.state_of(found, entry).error
    assert told == {
        2: "error: config.data.dir='gone' is not a directory",
        137: "ended by SIGKILL, its last line: step 2/6",
        1: "step 2/6",
    }


def test_the_exit_code_is_that_of_the_worst_member(tmp_path, fake):
    assert sweep(tmp_path / "whole", "seed=0,1") == (0, "")
    error, *details = runs.error_of(sweep(tmp_path / "diverged", "seed=0,5"), 3)
    assert ("1 of 2 members diverged; all else is whole" in error, "seed=5: diverged" in details[0]) == (True, True)
    runs.error_of(sweep(tmp_path / "diverged", "seed=0,5"), 3)
    assert len(attempts(tmp_path / "diverged")[5]) == 1  # it is whole
    runs.error_of(sweep(tmp_path / "failed", "seed=2,5"), 2)


def test_a_sweep_that_is_told_to_end_tells_its_members_and_goes_on_later(tmp_path, fake):
    out = tmp_path / "out"

    def tell():
        while not list(out.glob("*/waits")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    teller = threading.Thread(target=tell)
    teller.start()
    code, stderr = sweep(out, "seed=4,0")
    teller.join()
    assert (code, stderr) == (143, "")
    assert {seed: state.name for seed, state in states(out).items()} == {4: "stopped", 0: "waiting"}
    assert sweep(out, "seed=4,0") == (0, "")


def test_a_folder_belongs_to_one_sweep_to_which_members_may_be_added(tmp_path, fake):
    out = tmp_path / "out"
    assert sweep(out, "seed=0") == (0, "")
    error, *details = runs.error_of(sweep(out, "seed=1"), 2)
    assert f"{out}/sweep.json is of another sweep: 1 of its members are not in this one" in error
    assert "--config.seed=0" in details[0]
    assert sweep(out, "seed=0,1") == (0, "")
    assert {seed: len(lines) for seed, lines in attempts(out).items()} == {0: 1, 1: 1}
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").touch()
    assert "holds config.json but no sweep.json" in runs.error_of(sweep(tmp_path / "run", "seed=0"), 2)[0]
    (out / "sweep.json").write_text("{")
    assert "is damaged" in runs.error_of(sweep(out, "seed=0"), 2)[0]


def test_members_that_outlive_a_sweep_hold_its_folder(tmp_path, fake):
    out = tmp_path / "out"
    with checkpoint.held(out, "--out") as lock:
        found = ledger.sweep_of(out, "configs/demo.py", [], members.members("configs/demo.py", [], "seed=4"))
        running = local.start(found, found.entries[:1], {}, lock.fileno())
    try:
        runs.wait_for(lambda: list(out.glob("*/waits")), running.process)
        assert "is in use by another process" in runs.error_of(sweep(out, "seed=4"), 2)[0]
    finally:
        running.process.kill()
        running.process.wait()


def test_gpus_are_shared_out_one_a_member(tmp_path, fake, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert local.devices() == ["2", "5"]
    line, *_ = runs.error_of(sweep(tmp_path / "out", "seed=0,1", "--jobs=3"), 2)
    assert "--jobs=3: there are 2 GPUs" in line
    assert sweep(tmp_path / "out", "seed=0,1") == (0, "")
    assert attempts(tmp_path / "out") == {0: ["attempt on 2"], 1: ["attempt on 5"]}
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert (local.devices(), local.slots(2, [])) == ([], [{}, {}])


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_has_a_row_a_score_and_says_who_has_none(tmp_path, fake, results):
    out = tmp_path / "out"
    sweep(out, "classifier.learning_rate=1e-3&seed=0,2".replace("1e-3", "1e-3,1e-2"))
    found = rows(out)
    assert list(found[0]) == [
        *("id", "workdir", "state", "classifier.learning_rate", "seed"),
        *("protocol", "arm", "part", "score", "mean", "std", "low", "high", "n"),
    ]
    failed, *others = [row for row in found if row["state"] == "failed"]
    assert not others
    assert (failed["classifier.learning_rate"], failed["seed"], failed["mean"]) == ("0.01", "2", "")
    arm = results["protocols"]["clean"]["with_gan"]["unseen"]
    (one,) = (r for r in found if (r["arm"], r["part"], r["score"]) == ("with_gan", "unseen", "auc"))
    expected = [arm["mean"]["auc"], arm["std"]["auc"], *arm["interval"]["auc"], 120]
    assert [float(one[name]) for name in ("mean", "std", "low", "high", "n")] == pytest.approx(expected, rel=1e-8)


def test_a_member_all_of_which_diverged_has_a_row(tmp_path):
    found = ledger.sweep_of(tmp_path, "configs/demo.py", [], members.members("configs/demo.py", [], "seed=0"))
    arm = {"title": "without GAN", "trials": [], "diverged": {"trial": 0, "step": 1, "metric": "loss"}}
    checkpoint.write_json(
        tmp_path / found.entries[0].id / "results.json", {"protocols": {"clean": {"without_gan": arm}}}
    )
    written = [(entry, ledger.state_of(found, entry)) for entry in found.entries]
    table.write(found, written)
    page.write(found, written, {})
    assert [(row["state"], row["mean"]) for row in rows(tmp_path)] == [("diverged", "")]
    assert "1 diverged" in (tmp_path / "sweep.html").read_text()


def test_the_page_can_be_written_at_any_time_of_any_score(tmp_path, fake):
    out = tmp_path / "out"
    sweep(out, "seed=0,2,1")
    (out / "sweep.html").unlink()
    assert runs.call(main, f"--out={out}", "--report", "--score=auc", "--arm=without_gan") == (0, "")
    text = (out / "sweep.html").read_text()
    for told in (
        "2 whole, 1 failed",
        "Shown is AUC",
        "The best of 2 is optimistic",
        "config.data.dir=&#39;gone",
        "phantoms",
    ):
        assert told in text
    assert "data:image/png;base64," in text
    assert (
        "--part=there: no member has it; there is test, unseen"
        in runs.error_of(runs.call(main, f"--out={out}", "--report", "--part=there"), 2)[0]
    )
    assert "is not the folder of a sweep" in runs.error_of(runs.call(main, f"--out={tmp_path}", "--report"), 2)[0]
    assert "--report takes" in runs.error_of(runs.call(main, f"--out={out}", "--report", "--jobs=2"), 2)[0]
    assert "--report takes" in runs.error_of(runs.call(main, f"--out={out}", "--report", "--together"), 2)[0]
    assert "--wait is of --slurm" in runs.error_of(sweep(out, "seed=0,2,1", "--wait"), 2)[0]


def point(seed: int, low: float, high: float, state: str = "whole") -> page.Point:
    scored = page.Score("clean", "with_gan", "unseen", "auc", (low + high) / 2, 0.01, low, high, 100, 3, None, None)
    return page.Point(ledger.Entry(f"{seed}", (), {"seed": seed}), ledger.State(state), scored)


def test_the_best_is_the_one_whose_interval_begins_highest():
    points = [point(0, 0.70, 0.90), point(1, 0.75, 0.79), point(2, 0.80, 0.90, "diverged")]
    best = page.best_of(points)
    assert best.entry.fields == {"seed": 1}
    told = " ".join(page.verdict(points, best))
    assert "The intervals of 1 of the 1 others reach its mean" in told
    assert "1.7 points too high (0.56 standard errors of 3.1 points" in told  # 0.56 x (0.20 + 0.04) / 2 / 3.92
    assert page.best_of([]) is None


def test_members_of_one_value_stand_beside_each_other():
    assert page.places_of([1e-2, 1e-4, 1e-2]) == (["0.0001", "0.01"], [0.875, 0.0, 1.125])
    assert page.places_of([["b"], None, True]) == (['["b"]', "", "True"], [0.0, 1.0, 2.0])


def test_the_best_of_many_is_as_optimistic_as_draws_say():
    draws = np.random.default_rng(0).normal(size=(200_000, 8)).max(1).mean()
    assert page.best_of_normals(8) == pytest.approx(draws, abs=0.01)
    assert page.best_of_normals(1) == pytest.approx(0, abs=1e-9)


SBATCH = r"""#!/bin/bash
# Runs the elements of an array one after another, as SLURM would.
echo 77
for n in $(seq $(sed -n 's/.*--array=\([0-9]*\)-\([0-9]*\).*/\1 \2/p' "${@: -1}")); do
  SLURM_ARRAY_TASK_ID=$n SLURM_JOB_ID=$((78 + n)) bash "${@: -1}"
done
exit 0
"""


@pytest.fixture
def fake_slurm(fake, monkeypatch) -> Path:
    """The fake of `fake`, and beside it commands of SLURM that run everything at once, here."""
    commands = {
        "sbatch": SBATCH,
        "srun": '#!/bin/bash\n"$@"',
        "squeue": f"#!/bin/bash\ncat {fake / 'queue'}",
        "scontrol": "#!/bin/bash\necho 'MaxArraySize            = 3'",
    }
    for name, text in commands.items():
        (fake / name).write_text(text)
        (fake / name).chmod(0o755)
    (fake / "queue").touch()
    monkeypatch.setenv("PATH", str(fake), prepend=os.pathsep)
    return fake


def test_an_array_runs_what_is_missing_and_keeps_exit_codes(tmp_path, fake_slurm):
    out = tmp_path / "out"
    flags = ("--slurm=--partition=gpu --comment='two words'", "--wait", "--jobs=4")
    error, *details = runs.error_of(sweep(out, "seed=0,2,3", *flags), 137)
    assert "2 of 3 members are not whole" in error
    assert [line.split(": ", 1)[1].split(": ")[0] for line in details] == [
        "failed, exit code 2",
        "failed, exit code 137",
    ]
    script = (out / "sweep.sbatch").read_text()
    assert "--array=0-2%4\n" in script
    assert "\n#SBATCH --partition=gpu '--comment=two words'\n" in script
    (fake_slurm / "repaired").touch()
    assert sweep(out, "seed=0,2,3", "--slurm") == (0, "")  # submitted
    assert "--array=0-1\n" in (out / "sweep.sbatch").read_text()
    assert states(out)[2].name == "whole"
    (fake_slurm / "queue").write_text("77\n")
    assert "job 77 of this sweep is still queued or runs" in runs.error_of(sweep(out, "seed=0,2,3", "--slurm"), 2)[0]


def test_an_array_is_no_larger_than_slurm_allows(tmp_path, fake_slurm, capsys):
    out, grid = tmp_path / "out", "seed=0,1&enlarge=2,2;classifier.epochs=1,2"
    error, *details = runs.error_of(sweep(out, grid, "--slurm", "--wait"), 1)
    assert ("1 of 4 members are not whole" in error, len(details)) == (True, 1)
    assert "3 are one array" in capsys.readouterr().out
    assert sweep(out, grid, "--slurm", "--wait") == (0, "")


def test_a_port_in_use_is_passed_over(tmp_path, fake_slurm):
    import socket

    first = 10240 + 78  # what the first element asks for
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", first))
        taken.listen()
        (fake_slurm / "srun").write_text('#!/bin/bash\necho "port $JAX_COORDINATOR_PORT"; "$@"')
        assert sweep(tmp_path / "out", "seed=0", "--slurm", "--wait") == (0, "")
    (log,) = (tmp_path / "out").glob("*/log.txt")
    assert log.read_text() == f"port {first + 1}\n"


def test_slurm_that_is_not_there_or_refuses_is_one_line(tmp_path, fake_slurm, monkeypatch):
    (fake_slurm / "sbatch").write_text("#!/bin/bash\necho 'sbatch: error: invalid partition' >&2; exit 1")
    error, *details = runs.error_of(sweep(tmp_path / "out", "seed=0", "--slurm=-p gone"), 2)
    assert ("mend --slurm='-p gone'" in error, details) == (True, ["sbatch: error: invalid partition"])
    for flag, folder, options in (("--out", "a\nb", ""), ("--slurm", "other", "--comment='a\nb'")):
        line, *_ = runs.error_of(sweep(tmp_path / folder, "seed=0", f"--slurm={options}"), 2)
        assert (line.startswith(f"{flag}="), "leave the line end out" in line) == (True, True)
    assert "close the quote" in runs.error_of(sweep(tmp_path / "out", "seed=0", "--slurm='"), 2)[0]
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInput, match="there is no sbatch here"):
        slurm.check_here()
    assert "there is no sbatch here" in runs.error_of(sweep(tmp_path / "third", "seed=0", "--slurm"), 2)[0]
    assert not (tmp_path / "third").exists()


@pytest.mark.slow
def test_members_end_in_the_bits_of_runs_alone(tmp_path, tiny_flags):
    flags = [*tiny_flags, "--config.arms=('without_gan',)", "--config.protocols=('clean',)", "--config.trials=(0,)"]
    out = tmp_path / "out"
    assert runs.call(main, *flags, "--sweep=classifier.learning_rate=1e-3,1e-2", f"--out={out}", "--jobs=2") == (0, "")
    first, second = ledger.read(out).entries
    alone = runs.finish([*flags, "--config.classifier.learning_rate=1e-2"], tmp_path / "alone")
    assert runs.bits(out / second.id) == runs.bits(alone) != runs.bits(out / first.id)
    assert {row["state"] for row in rows(out)} == {"whole"}
    assert "is whole" not in ledger.log_of(ledger.read(out), first).read_text()
