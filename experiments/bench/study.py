"""A whole study against the same one as a PyTorch user writes it who counts its cost, stage by stage.

    python -m experiments.bench.study --data=DIR --weights=squeezenet1_1.safetensors

Prints Markdown. Three trials under `clean`, without and with GAN, at equal steps: images decoded, a DCGAN a class and
trial, its pictures, features of SqueezeNet 1.1 once an image, a head for each arm, the logits of all other images,
scores. Each side runs in a process of its own, in turn, with nothing cached; ours compiles within its stages. Without
--data phantoms are written as JPEGs first; without --weights the network is random. The other side
(`experiments.bench.torch_study`) has no intervals, no checkpoints and no page.

Last comes the engine's overhead: what `gan` takes beyond the same steps of the same compiled program in a bare loop.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

STAGES = ("weights", "data", "gan", "features", "classifier", "evaluate", "the rest")


class Setting(NamedTuple):
    """What both sides do."""

    classes: tuple = ("NORMAL", "PNEUMONIA")
    subset: tuple = (234, 390)  # images of each class and trial
    trials: int = 3
    test: float = 0.2
    enlarge: int = 10
    size: int = 96  # pixels that the network sees
    gan_size: int = 64
    filters: int = 32
    gan_batch: int = 32
    gan_steps: int = 100
    steps: int = 100  # of a head
    batch: int = 32
    rate: float = 1e-2


def ours(setting: Setting, data: str, file: str, out: str) -> dict[str, float]:
    """pneumojax: seconds by stage."""
    from pneumojax import runtime

    runtime.configure()
    from pneumojax import config, study

    fields = {
        "seed": 0,
        "trials": tuple(range(setting.trials)),
        "protocols": ("clean",),
        "arms": ("without_gan", "with_gan"),
        "enlarge": float(setting.enlarge),
        "data.dir": data,
        "data.cache": Path(out, "data"),
        "data.subset": setting.subset,
        "gan.cache": "",
        "gan.steps": setting.gan_steps,
        "gan.filters": setting.filters,
        "gan.batch_size": setting.gan_batch,
        "gan.image_size": setting.gan_size,
        "model.weights": file,
        "model.image_size": setting.size,
        "classifier.steps": setting.steps,
        "classifier.batch_size": setting.batch,
        "classifier.learning_rate": setting.rate,
    }
    flags = [f"--config.{field}={value}" for field, value in fields.items()]
    study.run(config.load("configs/squeezenet_cpu.py", flags), Path(out, "run"))
    return json.loads(Path(out, "run", "results.json").read_text())["timings_s"]


def theirs(setting: Setting, data: str, file: str, out: str) -> dict[str, float]:
    """PyTorch: the same."""
    from experiments.bench import torch_study

    return torch_study.run(setting, data, file, out)


def timed(side: str, setting: Setting, *places: str) -> dict[str, float]:
    """Seconds of one side; `the rest` is imports and, of ours, the page with its figures and maps."""
    started = time.perf_counter()
    seconds = {"ours": ours, "theirs": theirs}[side](setting, *places)
    whole = time.perf_counter() - started
    known = {stage: seconds.get(stage, 0.0) for stage in STAGES}
    return known | {"the rest": whole - sum(known.values()), "whole": whole}


def run_side(side: str, options) -> dict[str, float]:
    """One side in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "experiments.bench.study", f"--side={side}", f"--out={folder}"]
        command += [f"--data={options.data}", f"--weights={options.weights}", f"--gan-steps={options.gan_steps}"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def overhead(setting: Setting, seconds: float) -> str:
    """How much longer our GANs took than so many steps alone, on pictures of the same size."""
    from experiments.bench import gan_step
    from experiments.bench.gans import setting as gans

    steps = min(setting.gan_steps, 50)
    run = gan_step.ours(gans.Setting("dcgan", setting.filters, setting.gan_batch, setting.gan_size, steps))
    run()
    started = time.perf_counter()
    run()
    count = len(setting.classes) * setting.trials
    alone = (time.perf_counter() - started) / steps * setting.gan_steps * count
    return f"The GANs' {count} x {setting.gan_steps} steps alone: {alone:.1f} s; `gan` took {seconds:.1f} s."


def prepare(options, folder: Path) -> None:
    """Phantoms as JPEGs, and random weights, where none are given."""
    if not options.data:
        from PIL import Image

        from configs import default
        from pneumojax.data import phantom

        config = default.get_config().data
        config.phantom_images = (800, 1300)
        images, options.data = phantom.load(config, 256), str(folder)
        for number, (label, pixels) in enumerate(zip(images.labels, images.pixels, strict=True)):
            name = f"person{number}_virus_{number}" if label else f"IM-{number:04d}-0001"
            path = folder / "train" / Setting().classes[label] / f"{name}.jpeg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.asarray(pixels)).save(path, quality=90)
    if not options.weights:
        from safetensors.torch import save_file

        from pneumojax import weights

        options.weights = str(folder / "random.safetensors")
        save_file(weights.import_torchvision().models.squeezenet1_1().state_dict(), options.weights)


def main() -> None:
    """Prints a row for each stage: median seconds, and the ratios of rounds, above 1 where ours is faster."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", default="", help="folder of images, as configs/default.py has it")
    parser.add_argument("--weights", default="", help="of SqueezeNet 1.1, safetensors under torchvision's names")
    parser.add_argument("--gan-steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    options = parser.parse_args()
    setting = Setting(gan_steps=options.gan_steps)
    if options.side:
        print(json.dumps(timed(options.side, setting, options.data, options.weights, options.out)))
        return
    with tempfile.TemporaryDirectory() as folder:
        prepare(options, Path(folder))
        rounds = []
        for number in range(options.rounds):
            order = ("ours", "theirs") if number % 2 == 0 else ("theirs", "ours")
            rounds.append({side: run_side(side, options) for side in order})
        print("| stage | pneumojax, s | PyTorch, s | ratio of rounds, median [range] |\n|---|---|---|---|")
        for stage in (*STAGES, "whole"):
            sides = [np.array([one[side][stage] for one in rounds]) for side in ("ours", "theirs")]
            ratios = sides[1] / np.maximum(sides[0], 1e-9)
            cells = [f"{np.median(side):.1f}" for side in sides]
            cells.append(f"**{np.median(ratios):.2f}** [{ratios.min():.2f}, {ratios.max():.2f}]")
            print(f"| {stage} | {' | '.join(cells)} |", flush=True)
        print("\n" + overhead(setting, float(np.median([one["ours"]["gan"] for one in rounds]))))


if __name__ == "__main__":
    main()
