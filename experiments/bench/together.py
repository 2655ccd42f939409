"""A sweep as jobs of one program against its members one after another: `python -m experiments.bench.together`.

    python -m experiments.bench.together heads --data=DATA --weights=SQUEEZENET     # SqueezeNet's head on real images
    python -m experiments.bench.together placement --devices=8          # narrow ResNet-18s, 8 virtual devices

Both are the command of a user, as whole processes in turn: learning rates are swept, no GAN is trained, and both find
programs of no earlier run. With `--devices` they see so many virtual devices of the CPU.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pneumojax import cli

HEADS = ("--config=configs/squeezenet_cpu.py", "--config.arms=('without_gan',)", "--config.protocols=('clean',)")
NARROW = ("--config=configs/demo.py", "--config.trials=(0,)", "--config.protocols=('clean',)", "--config.model.width=4")
NARROW += ("--config.classifier.batch_size=8", "--config.arms=('without_gan',)", "--config.classifier.steps=80")


def command(options) -> list[str]:
    """The sweep's, less where it goes."""
    given = [*NARROW]
    if options.kind == "heads":
        given = [*HEADS, f"--config.data.dir={options.data}", f"--config.model.weights={options.weights}"]
    rates = ",".join(f"{1e-3 * 1.5**number:.3g}" for number in range(options.members))
    return [sys.executable, "-m", "experiments.sweep", *given, f"--sweep=classifier.learning_rate={rates}"]


def seconds(options, *flags: str) -> float:
    """How long one sweep takes, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        variables = {**os.environ, "JAX_COMPILATION_CACHE_DIR": f"{folder}/programs"}
        if options.devices:
            variables["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={options.devices}"
        began = time.monotonic()
        with Path(folder, "log").open("w") as log:
            subprocess.run([*command(options), f"--out={folder}/out", *flags], env=variables, stdout=log, check=True)
        return time.monotonic() - began


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("kind", choices=("heads", "placement"))
    parser.add_argument("--data", type=cli.path)
    parser.add_argument("--weights", type=cli.path)
    parser.add_argument("--members", type=int, default=8, help="learning rates")
    parser.add_argument("--devices", type=int, default=0, help="virtual ones; those that there are if 0")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    print("| round | members | one program, s | one after another, s | gain |\n|---|---|---|---|---|")
    for number in range(options.rounds):
        found = {}
        for together in (True, False) if number % 2 else (False, True):
            found[together] = seconds(options, *(["--together"] if together else []))
        gain = found[False] / found[True]
        print(f"| {number + 1} | {options.members} | {found[True]:.1f} | {found[False]:.1f} | {gain:.2f} |", flush=True)


if __name__ == "__main__":
    main()
