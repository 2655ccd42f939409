"""What is said while a study runs, what it took, and the programs that later starts find compiled."""

import contextlib
import io
import json
import os
import re
import shutil
import warnings

import jax
import jax.numpy as jnp
import pytest
import runs
from absl import logging
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache import compilation_cache
from test_loop import job
from test_loop import run as train

from pneumojax import cli, errors, loop, programs, progress, timings
from pneumojax.timings import Timings
from pneumojax.traces import Traces


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when the test says so: clock[0]."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def line(on_terminal=None) -> progress.Line:
    return progress.Line(on_terminal, Traces(None))


# A task


def test_the_time_left_leaves_out_what_was_compiled_and_what_took_no_time(clock, monkeypatch):
    monkeypatch.setattr(progress.making, "seconds", 7.0)
    task = progress.Task("GANs", 1000)
    task.note = "job 3 of 12, trial0/clean/gan_normal"
    task.skip(400)
    clock[0] += 25
    progress.making.seconds += 15
    task.advance(100)
    assert task.pace(clock[0]) == "10 images/s, 50 s left"
    assert task.words(clock[0]) == f"GANs, {task.note}: 500 of 1,000 images, 10 images/s, 50 s left"


def test_parts_that_are_passed_over_count_as_done_and_take_no_time(clock):
    task = progress.Task("classifiers", 60)
    for part in task.each([("a", "one", 10), ("b", "two", 20), ("c", "three", 30)]):
        if part == "b":
            clock[0] += 4
            task.advance(8)  # and then it diverges
    assert (task.done, task.note) == (60, "three")
    assert task.pace(clock[0]) == "2 images/s, 0 s left"


def test_before_anything_is_done_no_pace_is_made_up(clock):
    task = progress.Task("features", 1000)
    clock[0] += 200
    assert task.words(clock[0]) == "features: 0 of 1,000 images, 3 min"
    assert [progress.spelled(s) for s in (0.4, 99, 100, 5900, 36_000)] == ["0 s", "99 s", "2 min", "98 min", "10.0 h"]


def test_the_program_that_is_being_compiled_is_named(clock):
    task = progress.Task("classifiers", 10)
    programs.making.begun(programs.PHASES[2], 0.0, fun_name="jit(advance)")
    try:
        clock[0] += 34
        assert task.words(clock[0]) == "classifiers: compiling advance, 34 s"
    finally:
        programs.making.ended(programs.PHASES[2], 34.0)
    assert programs.making.name == ""


def test_names_can_forge_no_line():
    task = progress.Task("a system\nerror: forged", 1)
    task.note = "trial0/clean/\x1b[2Jarm"
    task.tail = "loss\r1"
    assert task.words(0.0).isprintable()


# The log


def test_steps_that_follow_fast_are_a_line_now_and_then(clock):
    shown = line()
    due = []
    for _ in range(30):
        due.append(shown.due())
        clock[0] += 1
    assert [second for second, is_due in enumerate(due) if is_due] == [0, 5, 10, 15, 20, 25]


def test_whatever_takes_long_says_what_it_is(clock, caplog):
    shown = line()
    shown.tasks.append(progress.Task("statistics"))
    with caplog.at_level("INFO", logger="absl"):
        for _ in range(125):
            shown.tick()
            clock[0] += 0.5
        assert caplog.messages == ["statistics: 20 s", "statistics: 40 s", "statistics: 60 s"]
        shown.making_room(lambda record: None)(None)  # a line of somebody else's
        clock[0] += 19
        shown.tick()
    assert len(caplog.messages) == 3


def test_before_a_step_is_compiled_that_is_said_with_its_job(tmp_path, caplog, monkeypatch):
    for name in ("EVERY", "SILENT", "LONG"):
        monkeypatch.setattr(progress, name, 1e6)  # however slow the machine is
    loop.advance.clear_cache()  # another test may have trained as many of these
    jobs = [job(trial) for trial in range(2)]
    with caplog.at_level("INFO", logger="absl"), progress.shown():
        train(tmp_path, jobs, together=True)
        train(tmp_path / "again", jobs, together=True)
    said = [text for text in caplog.messages if "compiling advance" in text]
    assert said == ["classifiers, 2 of 2 jobs, trial0/clean/toy and 1 more: compiling advance"]
    [first] = [text for text in caplog.messages if text.startswith("classifiers") and ", step " in text]
    assert first.startswith("classifiers, 2 of 2 jobs, trial0/clean/toy and 1 more, step 3/12 ")
    assert first.endswith(" left)")


def test_nothing_is_shown_that_nobody_asked_for(capsys):
    assert list(progress.over("abc", "letters", 3)) == ["a", "b", "c"]
    with progress.task("something", 3) as task:
        task.advance(3)
    assert capsys.readouterr().err == ""


# The live line


class Terminal(io.StringIO):
    """A terminal as far as stderr tells."""

    def isatty(self) -> bool:
        return True

    def seen(self) -> list[str]:
        """The lines that are on it in the end."""
        lines, column = [""], 0
        for letter in self.getvalue():
            if letter == "\n":
                lines.append("")
            elif letter != "\r":
                lines[-1] = lines[-1][:column].ljust(column) + letter + lines[-1][column + 1 :]
            column = 0 if letter in "\r\n" else column + 1
        return [text.rstrip() for text in lines]


@contextlib.contextmanager
def terminal():
    """stderr, and the log in it, as under `app.run`; no fixture, since pytest has its own stderr in each phase."""
    made, handler, logger = Terminal(), logging.get_absl_handler(), logging.get_absl_logger()
    before, level = handler.python_handler.setStream(made), logging.get_verbosity()
    logging.set_verbosity(logging.INFO)
    logger.addHandler(handler)
    filters, logger.filters = logger.filters, []  # a command that an earlier test ran shows our own lines alone
    with contextlib.redirect_stderr(made):
        yield made
    logger.filters = filters
    logger.removeHandler(handler)
    logging.set_verbosity(level)
    handler.python_handler.setStream(before)


def test_on_a_terminal_there_is_one_line_and_it_garbles_no_other(monkeypatch):
    monkeypatch.setattr(progress, "TICK", 0.001)  # draws all the time
    with terminal() as screen:
        with progress.shown(), progress.task("GANs", 4000) as task:
            for number in range(200):
                task.advance(16)
                task.tell(f"step {number} d_loss 0.6")
                if number % 20 == 0:
                    logging.info("a line of the log, number %d", number)
            progress._line.tick()
            assert re.fullmatch(r" 80%\|.*\| GANs: .* images/s, 0 s left, step 199 d_loss 0.6", screen.seen()[-1])
        with pytest.raises(SystemExit):
            cli.fail(errors.BadInput("all is lost"))
    lines, numbers = [text for text in screen.seen() if "before flag parsing" not in text], range(0, 200, 20)
    assert [text.partition("] ")[2] for text in lines[:10]] == [f"a line of the log, number {n}" for n in numbers]
    assert lines[10:] == ["error: all is lost", ""]


def test_on_a_terminal_compiling_is_drawn_at_once():
    with terminal() as screen, progress.shown(), progress.task("GANs", 100):
        programs.making.begun(programs.PHASES[0], 0.0, fun_name="advance")
        drawn = screen.seen()[-1]
        programs.making.ended(programs.PHASES[0], 0.0)
    assert "GANs: compiling advance" in drawn
    assert screen.seen()[-1] == ""


# What it took


def test_compiling_is_among_the_seconds_and_counts_once(tmp_path):
    @jax.jit
    def inner(x):
        return jnp.sin(x) @ x

    own = Timings(tmp_path / ".timings.json")
    begun = programs.making.seconds
    with own.of("gan"):
        jax.jit(lambda x: inner(x) + inner(2 * x))(jnp.ones((3, 3))).block_until_ready()
    compiled = programs.making.seconds - begun
    assert compiled > 0
    assert own.seconds.keys() == {"gan", "gan_compile"}
    assert own.seconds["gan_compile"] == pytest.approx(compiled, abs=2e-3)
    assert own.seconds["gan_compile"] <= own.seconds["gan"] + 2e-3
    assert json.loads((tmp_path / ".timings.json").read_text()) == own.seconds


def test_the_peak_of_memory_is_that_of_all_starts(tmp_path):
    now = timings.peaks()["host"]
    assert 0.05 < now < 500
    own = Timings(tmp_path / ".timings.json")
    with own.of("data"):
        pass
    assert own.peaks["host"] == pytest.approx(now, rel=0.5)
    (tmp_path / ".timings.memory.json").write_text('{"host": 1000.0, "device": 3.0}')
    later = Timings(tmp_path / ".timings.json")
    with later.of("data"):
        pass
    assert later.peaks == {"host": 1000.0, "device": 3.0}
    assert timings.larger({"host": 1.0}, {"host": 0.5, "device": 2.0}, {}) == {"host": 1.0, "device": 2.0}


# Programs that are kept


@pytest.fixture
def kept_in(tmp_path, monkeypatch):
    """Has programs kept below a folder; afterwards where the other tests have them."""
    names = ("jax_compilation_cache_dir", "jax_enable_compilation_cache")
    before = {name: getattr(jax.config, name) for name in names}
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def keep(home) -> str | None:
        jax.config.update("jax_compilation_cache_dir", home and os.fspath(home))
        programs.keep()
        return jax.config.jax_compilation_cache_dir if jax.config.jax_enable_compilation_cache else None

    yield keep
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture
def found():
    """Events of jax since the test began: its names, one after another."""
    events = []

    def listen(event, **_):
        events.append(event.rpartition("/")[2])

    jax.monitoring.register_event_listener(listen)
    yield events
    jax.monitoring.unregister_event_listener(listen)


def fresh():
    """A program that this process has not compiled, though its code is the same each time."""

    def made_for_a_test(x):
        return jnp.cos(x) @ jnp.tanh(x)

    return jax.jit(made_for_a_test)(jnp.ones((5, 5))).block_until_ready()


def test_a_program_is_found_again_and_one_that_a_kill_left_damaged_is_mended(kept_in, found, tmp_path, caplog):
    folder = kept_in(tmp_path)
    assert os.path.dirname(folder) == str(tmp_path)
    assert kept_in(folder) == folder  # a second call, as of a second command in a process
    first = fresh()
    [entry] = (tmp_path / os.path.basename(folder)).glob("jit_made_for_a_test-*")
    content = entry.read_bytes()
    found.clear()
    assert (fresh() == first).all()
    assert "cache_hits" in found
    entry.write_bytes(content[:1000])
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert (fresh() == first).all()
    assert f"{folder}: reading compiled programs fails" in caplog.text
    assert len(entry.read_bytes()) > 1000


def test_another_number_of_cores_has_a_folder_of_its_own(monkeypatch):
    here = programs.kind()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(77)))
    assert programs.kind() != here


@pytest.mark.parametrize("why", ["a file", "full", "refused", "no home"])
def test_where_programs_cannot_be_kept_that_is_said_and_no_more(kept_in, tmp_path, monkeypatch, caplog, why):
    home = tmp_path / "home"
    if why == "a file":
        home.write_text("in the way")
        said = "Not a directory"
    elif why == "full":
        usage = shutil.disk_usage(tmp_path)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2**20))
        said = "less than 128 MB are free"
    elif why == "refused":

        def refuse(*_, **__):
            raise RuntimeError("Target machine feature +prefer-no-gather is not supported on the host machine")

        monkeypatch.setattr(serialize_executable, "deserialize_and_load", refuse)
        said = "jax refuses here what it has compiled here: Target machine feature +prefer-no-gather"
    else:
        home, said = None, "this user has no home folder"
        monkeypatch.delenv("HOME")
        monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert kept_in(home) is None
    assert sum(said in text for text in caplog.messages) == 1, caplog.messages
    assert fresh().shape == (5, 5)


def test_no_folder_is_no_cache_without_a_word(kept_in, caplog):
    assert kept_in("") is None
    assert caplog.messages == []


# A study


@pytest.mark.slow
@pytest.mark.long
def test_the_log_of_a_study_is_quiet_and_a_profile_changes_no_bit(tiny_flags, tmp_path):
    flags = [
        *(*tiny_flags, "--config.gan.cache=", "--config.trials=(0,)", "--config.protocols=('clean',)"),
        "--config.arms=('without_gan', 'with_gan')",
    ]
    process = runs.start([*flags, "--profile"], tmp_path / "profiled")
    code, log = runs.ended(process)
    assert code == 0, log
    lines = log.splitlines()
    assert len([text for text in lines if "progress.py:" not in text]) < 20, log  # these are more on a slow machine
    assert not any(text in log for text in ("Unable to initialize", "| Name", "Warning"))
    [parameters] = [text for text in lines if "parameters" in text]
    assert "resnet18: 44,838 parameters, 44,838 of them trained: " in parameters
    table = (tmp_path / "profiled/parameters.txt").read_text()
    assert table.startswith("resnet18\n+---")
    assert "params/conv1/kernel" in table
    assert [text.partition("] ")[2] for text in lines if "compiling advance" in text] == [
        "GANs, job 1 of 2, trial0/clean/gan_normal: compiling advance",
        "classifiers, job 1 of 2, trial0/clean/without_gan: compiling advance",
    ]
    [said] = [text for text in lines if "traces of" in text]
    assert f"{tmp_path}/profiled/profile: traces of GANs, " in said
    for kind in ("GANs", "classifiers"):
        [trace] = (tmp_path / "profiled/profile" / kind).glob("plugins/profile/*/perfetto_trace.json.gz")
        assert list(trace.parent.glob("*.xplane.pb"))
    assert runs.bits(runs.finish(flags, tmp_path / "plain")) == runs.bits(tmp_path / "profiled")
