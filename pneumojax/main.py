"""Runs the three-trial study of one classifier: `python -m pneumojax.main --config=configs/resnet18.py`."""

from pneumojax import runtime

if __name__ == "__main__":
    runtime.configure()  # before anything imports jax

from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from pneumojax import cli, study
from pneumojax.errors import BadInput, StudyError, describe

CONFIG = config_flags.DEFINE_config_file("config", help_string="The study, a file of configs/.")
WORKDIR = flags.DEFINE_string("workdir", None, "Where everything goes; runs/<config name> if not given.")


def parse(argv: list[str]) -> list[str]:
    """Parses the flags. Errors: SystemExit(2) with one line, also for a field that the config does not have."""
    try:
        rest = flags.FLAGS(argv)
        if CONFIG.value is None:
            raise BadInput("--config is missing; pass e.g. --config=configs/demo.py")
        CONFIG.value.lock()  # a file that could not be read is only an error when it is used
        if rest[1:]:
            raise BadInput(f"unknown argument {rest[1]!r}; fields are set by --config.a.b=value")
    except StudyError as error:
        cli.fail(error)
    except Exception as error:  # a config file may raise anything
        cli.fail(BadInput(f"{describe(error)} (see configs/default.py for the fields and their types)"))
    return rest


def main(argv: list[str]) -> None:
    """Runs the study and turns what ends it early into exit codes."""
    del argv
    cli.show_log()
    name = Path(config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")[0]).stem
    workdir = Path(WORKDIR.value or f"runs/{name}").expanduser()
    with cli.exit_codes(workdir, "--workdir"):
        study.run(CONFIG.value, workdir)


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
