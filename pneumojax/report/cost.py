"""What a run took, stage by stage, and the code and machine that it ran on."""

from pneumojax.environment import PEAKS
from pneumojax.run import Run
from pneumojax.timings import COMPILE

PLACE = 28
STAGES = {
    "weights": "weights read",
    "data": "images decoded",
    "gan": "GANs trained, images generated",
    "features": "features of frozen stages",
    "filter": "median filter",
    "forest": "forests grown",
    "classifier": "classifiers trained, images classified",
    "evaluate": "statistics",
}
NOTE = (
    "Seconds over all starts. Compiling is tracing, lowering and compiling programs, or reading what an earlier start "
    "had compiled. Images a second: those that training steps took, over the stage's seconds less compiling, pictures "
    "and checkpoints included; GANs that were found in the cache took no time, so theirs is too high then."
)


def section(run: Run) -> dict:
    """Two tables."""
    seconds = run.results["timings_s"]
    total = sum(own for name, own in seconds.items() if not name.endswith(COMPILE))
    rows = [
        {
            "lead": [title(name), worked(run, name)],
            "cells": [
                (f"{own:,.1f}",),
                (f"{own / total:.0%}" if total else "–",),
                (rate(run, name, own - seconds.get(name + COMPILE, 0.0)),),
            ],
        }
        for name, own in seconds.items()
    ]
    rows.append({"lead": ["all", ""], "cells": [(f"{total:,.1f}",), ("",), ("",)]})
    stages = {"heads": ["stage", "what", "seconds", "share", "images/s"], "rows": rows}
    made = [{"lead": [name, value], "cells": []} for name, value in versions(run.results["environment"]).items()]
    blocks = [{"note": NOTE}, {"table": stages}, {"table": {"heads": ["made with", ""], "rows": made}}]
    return {"title": "Cost, code and machine", "blocks": blocks}


def title(name: str) -> str:
    """What a stage, or the compiling in it, is called."""
    stage = name.removesuffix(COMPILE)
    return STAGES.get(stage, stage) + ": of these, compiling" * (stage != name)


def steps_of(run: Run, name: str) -> list[int]:
    """The last step of each GAN or classifier, by the curves of its losses."""
    last: dict = {}
    for (stage, metric), curve in run.curves.items():
        if bool(stage.gan) == (name == "gan") and (metric == "loss" or metric.endswith("_loss")) and curve:
            last[stage] = max(*curve, last.get(stage, 0))
    return list(last.values())


def images_of(run: Run, name: str) -> int:
    """Images that the training steps of a stage took; 0 where that is not known, or they took features."""
    if name == "gan":
        return sum(steps_of(run, name)) * run.config.gan.batch_size * run.config.gan.d_steps
    if name == "classifier" and not run.results["classifier"].get("cached_features"):
        return sum(steps_of(run, name)) * run.config.classifier.batch_size
    return 0


def worked(run: Run, name: str) -> str:
    """'12 GANs, 240 steps of 16 images'."""
    steps = steps_of(run, name) if name in ("gan", "classifier") else []
    if not steps:
        return ""
    kind = "GANs" if name == "gan" else "networks"
    batch = (run.config.gan if name == "gan" else run.config.classifier).batch_size
    return f"{len(steps)} {kind}, {sum(steps):,} steps of {batch} images"


def rate(run: Run, name: str, seconds: float) -> str:
    """Images a second; '' where it is not known."""
    images = images_of(run, name)
    return f"{images / seconds:,.0f}" if images and seconds else ""


def versions(environment: dict) -> dict[str, str]:
    """What the code and the machine are called, as far as the run has recorded them."""
    code = environment.get("code", {})
    packages = environment.get("packages", {})
    devices = environment.get("devices", [])
    others = len(environment.get("also", ()))
    found = {
        "commit": code.get("commit") or "none: not a checkout",
        "digest of the code": code.get("digest"),
        "pneumojax": code.get("version"),
        "Python": environment.get("python"),
        "packages": ", ".join(f"{name} {version}" for name, version in packages.items()),
        "devices": ", ".join(f"{devices.count(kind)} × {kind}" for kind in dict.fromkeys(devices)),
        "processor": environment.get("processor"),
        "cores": environment.get("cores"),
        "peak memory": ", ".join(f"{where} {gb:,.2f} GB" for where, gb in environment.get(PEAKS, {}).items()),
        "also made under": f"{others} more, listed in the last section" if others else "",
    }
    return {name: str(value) for name, value in found.items() if value}
