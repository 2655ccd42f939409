"""Runs the members of a sweep, or says how far they are: `python -m experiments.sweep`."""

from pneumojax import runtime

if __name__ == "__main__":
    runtime.configure()  # before anything imports jax

import argparse
from collections.abc import Sequence

from experiments.sweep import by_submitit, ledger, local, members, one_program, page, slurm, table
from experiments.sweep.ledger import Entry, State, Sweep
from pneumojax import checkpoint, cli, progress
from pneumojax.errors import BadInput, StudyError
from pneumojax.names import printable


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is missing or failed of a sweep, then writes sweep.csv and sweep.html. Any field of the config is set
    for all members by --config.a.b=value.

    Exit codes: 0 when all members are whole, 3 when some of them diverged and all else is whole, 143 and 130 when it
    was told to end. Else that of the worst member: one that crashed or was killed (its own code, 137 for SIGKILL), then
    4, then 2; a member that has not ended counts as 1.
    """
    parser = flags()
    cli.show_log()
    with cli.exit_codes():
        options, overrides = parser.parse_known_args(arguments)
        asked = {key: value for key in page.KEYS if (value := getattr(options, key))}
        if options.report:
            others = (options.config, options.sweep, options.submitit, options.jobs, options.together, options.wait)
            if overrides or options.slurm is not None or any(others):
                raise BadInput("--report takes --out, --score, --protocol, --arm and --part; leave the others out")
        else:
            asked_for = required(options, overrides)
            with progress.shown():
                found = members.members(*asked_for)
    with cli.exit_codes(options.out, "--out"):
        if options.report:
            sweep = ledger.read(options.out)
            return write(sweep, asked)
        sweep = ledger.sweep_of(options.out, options.config, overrides, found)
        if run(sweep, options):
            conclude(sweep, write(sweep, asked))


def flags() -> cli.Parser:
    """Those of the command, less fields of the config."""
    parser = cli.Parser(
        prog="python -m experiments.sweep",
        description=main.__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", help="the study, a file of configs/")
    parser.add_argument(
        "--sweep",
        metavar="FILE_OR_GRID",
        help="FILE.py for what sweep() in it yields, dicts of field and value; FILE.py:NAME for sweep_NAME(); or "
        "'FIELD=VALUE,VALUE;FIELD=VALUE,VALUE', all combinations, of which fields joined by & go in step",
    )
    parser.add_argument("--out", required=True, type=cli.path, metavar="FOLDER", help="where everything goes")
    parser.add_argument("--jobs", type=int, metavar="N", help="members that run at a time; 1, or as many as GPUs")
    parser.add_argument(
        "--slurm",
        nargs="?",
        const="",
        metavar="OPTIONS",
        help="submit them as a job array, with these options of sbatch, e.g. '--partition=gpu --gres=gpu:1 --time=60'",
    )
    parser.add_argument(
        "--submitit",
        metavar="OPTIONS",
        help="submit them by submitit, with parameters of its executor, e.g. 'timeout_min=120,slurm_partition=gpu'",
    )
    parser.add_argument(
        "--together",
        action="store_true",
        help="members that differ in rates, momentum, weight decay and seeds alone are jobs of one program, which is "
        "compiled once, whose features are computed once, and which spreads them over all devices",
    )
    parser.add_argument("--wait", action="store_true", help="with --slurm and --submitit: stay until all have ended")
    parser.add_argument("--report", action="store_true", help="write table and page of what is there, at any time")
    for key in page.KEYS:
        parser.add_argument(f"--{key}", help="shown on the page; that of the declared contrast if not given")
    return parser


def required(options, overrides: Sequence[str]) -> tuple[str, Sequence[str], str]:
    """Config, overrides and sweep. Errors: BadInput where one is missing, or a number cannot be."""
    if options.together and (options.slurm is not None or options.submitit is not None or options.jobs):
        raise BadInput("--together runs members as one program on this machine; leave --slurm and --jobs out")
    if options.submitit is not None and (options.slurm is not None or options.jobs):
        raise BadInput("--submitit has its own options; leave --slurm and --jobs out")
    if options.wait and options.slurm is None and options.submitit is None:
        raise BadInput("--wait is of --slurm and --submitit; on this machine it stays anyway, leave it out")
    if options.submitit is not None:
        by_submitit.parsed(options.submitit)
    for name, example in (("config", "configs/demo.py"), ("sweep", "'seed=0,1,2'")):
        if not getattr(options, name):
            raise BadInput(f"--{name} is missing; pass e.g. --{name}={example}")
    if options.jobs is not None and options.jobs < 1:
        raise BadInput(f"--jobs={options.jobs}: give 1 or more")
    return options.config, overrides, options.sweep


def run(sweep: Sweep, options) -> bool:
    """Runs or submits what is missing. Returns: whether all have ended since."""
    here = options.slurm is None and options.submitit is None
    if here:
        free = [{}] if options.together else local.slots(options.jobs, local.devices())
    elif options.slurm is not None:
        slurm.check_here()
    else:
        by_submitit.module()
    grouped = one_program.groups(sweep) if options.together else [[entry] for entry in sweep.entries]
    with checkpoint.held(sweep.out, "--out") as lock:
        ledger.claim(sweep)
        missing = [one for one in sweep.entries if ledger.state_of(sweep, one).name not in ledger.DONE]
        cli.show(printable(f"{sweep.out}: {len(sweep.entries)} members, {len(missing)} to run"))
        if missing and here:
            asked = {one.id for one in missing}
            own = ([one for one in group if one.id in asked] for group in grouped)
            local.run(sweep, [group for group in own if group], free, lock.fileno())
        elif missing and options.submitit is not None:
            job = by_submitit.submit(sweep, missing, options.submitit)
            cli.show(f"{len(job)} jobs; at any time: python -m experiments.sweep --report --out={sweep.out}")
        elif missing:
            now = missing[: slurm.largest_array()]
            job = slurm.submit(sweep, now, options.slurm, options.jobs)
            if len(now) < len(missing):
                cli.show(
                    f"{len(now)} are one array, and all that SLURM allows; then the same command submits the others"
                )
            cli.show(f"job {job}; at any time: python -m experiments.sweep --report --out={sweep.out}")
    if missing and not here:
        if not options.wait:
            return False
        with progress.shown(), progress.task("waiting for what was submitted"):
            (slurm.wait if options.submitit is None else by_submitit.wait)(job)
    return True


def write(sweep: Sweep, asked: dict[str, str]) -> list[tuple[Entry, State]]:
    """Writes table and page of what is there, and says what that is. Returns: the members' states."""
    states = [(entry, ledger.state_of(sweep, entry)) for entry in sweep.entries]
    table.write(sweep, states)
    page.write(sweep, states, asked)
    told = ", ".join(f"{count} {name}" for name, count in page.counts(states).items())
    cli.show(printable(f"{told}: {sweep.out / 'sweep.csv'} and {sweep.out / 'sweep.html'}"))
    return states


def conclude(sweep: Sweep, states: Sequence[tuple[Entry, State]]) -> None:
    """Errors: StudyError where members are not whole, of the worst one's exit code; their names are its details."""
    failed = [(entry, state) for entry, state in states if state.name not in ledger.DONE]
    diverged = [(entry, state) for entry, state in states if state.name == "diverged"]
    if not failed and not diverged:
        return
    codes = [1 if state.code is None else state.code for _, state in failed] or [3]
    crashed = [code for code in codes if code not in ledger.MILDER]
    what = f"{len(failed)} of {len(states)} members are not whole; the same command runs them again, and no others"
    if not failed:
        what = f"{len(diverged)} of {len(states)} members diverged; all else is whole"
    error = StudyError(f"{sweep.out}: {what}", [why(sweep, *one) for one in failed or diverged])
    error.exit_code = max(crashed) if crashed else next(code for code in ledger.MILDER if code in codes)
    raise error


def why(sweep: Sweep, entry: Entry, state: State) -> str:
    """A member that is not as it should be, in a line."""
    told = f"{ledger.label(entry)}: {state.name}"
    if state.code is None:
        return told
    return f"{told}, exit code {state.code}: {state.error} ({ledger.log_of(sweep, entry)})"


if __name__ == "__main__":
    main()
