"""Runs the paper's four networks as one study each, on the same images, splits and GANs, and writes one page.

python -m experiments.paper --config=configs/resnet18.py --workdir=DIR [--config.a.b=value …]

Where the file of BASE is named after one of the networks (`resnet18_cpu.py`) those of the others are taken from the
files beside it (`alexnet_cpu.py`), else only `model.name` differs. A network's run lies in DIR/<network> and is an
ordinary workdir; GANs are trained in the first and taken from the cache by the others, which is DIR/gans where the
config has none. Run again after a kill it goes on. DIR/paper.html is written anew after each network.
"""

from pneumojax import runtime

if __name__ == "__main__":
    runtime.configure()  # before anything imports jax

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app
from ml_collections import ConfigDict

from experiments.paper import page
from pneumojax import cli, config, paper, study
from pneumojax import run as runs
from pneumojax.errors import BadInput, Diverged
from pneumojax.names import printable

OWN = ("model", "classifier", "system")  # sections in which the networks' configs may differ


def configs_of(base: str, overrides: Sequence[str]) -> dict[str, ConfigDict]:
    """The config of each network of the paper.

    Errors: BadInput where one is not there, or two differ in more than network and training: they would not share GANs.
    """
    path, found = Path(base), {}
    named = next((network for network in paper.TABLE_1 if network in path.stem.split("_")), None)
    for network in paper.TABLE_1:
        if named:
            file = str(path.with_name(path.name.replace(named, network)))
            found[network] = config.load(file, overrides)
            if found[network].model.name != network:
                raise BadInput(f"{file}: config.model.name={found[network].model.name!r}; {network!r} is wanted there")
        else:
            found[network] = config.load(base, [*overrides, f"--config.model.name={network}"])
    first = next(iter(found.values()))
    for network, other in found.items():
        lines = config.differences(*(shared(one) for one in (first, other)))
        if lines:
            raise BadInput(f"the configs of {next(iter(found))} and {network} differ in what they must share", lines)
        if set(other.protocols) < {"paper", "clean"} or not {"with_gan", "without_gan"} <= set(other.arms):
            raise BadInput(
                f"config.protocols={other.protocols!r}, config.arms={other.arms!r}: the page wants the protocols paper "
                "and clean, and the arms with_gan and without_gan"
            )
    return found


def shared(one: ConfigDict) -> dict:
    """What the networks' studies have in common."""
    return {name: value for name, value in one.to_dict().items() if name not in OWN}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the paper's four networks, and writes DIR/paper.html. Fields are set as for `pneumojax.main`."""
    parser = cli.Parser(prog="python -m experiments.paper", description=main.__doc__, allow_abbrev=False)
    parser.add_argument("--config", help="of one of the networks, or of all, a file of configs/")
    parser.add_argument("--workdir", type=cli.path, help="where everything goes; runs/paper if not given")
    cli.show_log()
    with cli.exit_codes():
        options, overrides = parser.parse_known_args(arguments)
        if not options.config or ":" in options.config:
            raise BadInput("--config is missing, or no plain file; pass e.g. --config=configs/resnet18.py")
        configs = configs_of(options.config, overrides)
        workdir = options.workdir or Path("runs", "paper")
    with cli.exit_codes(workdir, "--workdir"):
        diverged = []
        for number, (network, own) in enumerate(configs.items(), 1):
            cli.show(f"{network}, network {number} of {len(configs)}")
            own.gan.cache = own.gan.cache or str(workdir.absolute() / "gans")
            try:
                study.run(own, workdir / network)
            except Diverged as error:
                diverged.append(error)
            page.write({name: runs.load(workdir / name) for name in list(configs)[:number]}, workdir)
        cli.show(printable(workdir / "paper.html"))
        if diverged:
            what = f"{workdir}: {len(diverged)} of {len(configs)} networks' runs diverged in part"
            raise Diverged.several(what, diverged)


if __name__ == "__main__":
    app.run(lambda _: main(), argv=sys.argv[:1])  # for absl's log alone; the flags are ours
