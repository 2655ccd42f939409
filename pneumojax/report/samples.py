"""What the GANs make: the last sheet of each, real images beside, and how those of the first trial came to it."""

import base64
from pathlib import Path

import numpy as np

from pneumojax.gan import pictures
from pneumojax.run import Run

PLACE = 70
LIMIT = 100_000  # bytes of a sheet on the page, so that one of three trials has fewer than 3 MB
QUALITIES = (85, 70, 55, 40)  # of WebP, tried in turn; the last one is taken whatever comes
NOTE = (
    "Synthetic, but for those called real: made by the GANs at their last step, none is of a patient. A GAN can still "
    "copy what it was trained on. Beside them are real images that this very GAN was trained on. Compressed for this "
    "page; samples/ has the sheets as they are."
)
CHOSEN = "Classifiers and measurements had images of the states with the lowest KID instead, where these differ: {}."
PROGRESS = "The same latents through training; the GANs of other trials are in samples/ as well."


def section(run: Run) -> dict | None:
    """Sheets, where any image was generated."""
    if not run.grids:
        return None
    grids = sorted(run.grids.items())
    first = [(stage, path) for stage, path in grids if stage[:2] == grids[0][0][:2]]
    animations = [(stage, path.with_name(pictures.progress_name(stage))) for stage, path in first]
    progress = [(f"progress: {stage.name}", encoded(path.read_bytes())) for stage, path in animations if path.exists()]
    sheets = [(stage.name, shown(path)) for stage, path in grids]
    moving = [{"note": PROGRESS}, {"pictures": progress}] if progress else []
    chosen = [f"{name}, step {step}" for name, step in sorted(run.results["gan"]["drawn_from"].items())]
    notes = [{"note": NOTE}, *([{"note": CHOSEN.format("; ".join(chosen))}] if chosen else [])]
    return {"title": "Generated images", "blocks": [*notes, {"pictures": sheets}, *moving]}


def shown(path: Path) -> str:
    """A picture at rest as it stands in the page."""
    return encoded(smaller(pictures.read(path)))


def smaller(sheet: np.ndarray) -> bytes:
    """A sheet as WebP, at the best quality within the limit."""
    for quality in QUALITIES:
        content = pictures.webp([sheet], quality)
        if len(content) <= LIMIT:
            break
    return content


def encoded(content: bytes) -> str:
    """A WebP as it stands in the page."""
    return base64.b64encode(content).decode()
