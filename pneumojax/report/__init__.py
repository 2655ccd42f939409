"""The page of a run: one self-contained HTML file, a section a module.

A section is a module in this folder with

    PLACE: int
        Where it stands on the page; lower ones first. The first one is the headline, before all facts.
    section(run) -> dict or None
        Of a `pneumojax.run.Run`: {"title": str, "blocks": [BLOCK]}; None where it has nothing to say. A BLOCK is one of
        {"prose": str}, {"note": str}, {"table": TABLE} (`report.tables`), {"figures": [(caption, base64 PNG)]},
        {"text": str}, {"pictures": [(caption, base64 WebP)]}, each as large as it is.
"""

import importlib
import pkgutil
from pathlib import Path

from pneumojax import pages
from pneumojax.run import Run

PROTOCOLS = {
    "clean": "split by patient before anything is trained, the GAN sees the training part only, tested on real images "
    "only.",
    "paper": "as published: the GAN sees every image of the subset, generated images are in the test set, patients on "
    "both sides. Its two arms have different test sets, so their difference is no gain and is not printed.",
    "disjoint": "the same test patients in all trials; each trial is trained on images of patients that no other trial "
    "has, as far as they suffice, and that is where its GAN's images are from.",
    "official": "trained on the published folder train, tested on the published folder test; a trial is a seed.",
    "patient_kfold": "a trial is a fold of all images; no patient is in two folds.",
}


def write(run: Run, folder: Path) -> None:
    """Writes report.html."""
    pages.write(
        folder / "report.html",
        __name__,
        results=run.results,
        protocols={name: PROTOCOLS[name] for name in run.results["protocols"]},
        sections=sections(run),
    )


def sections(run: Run) -> list[dict]:
    """What the sections of the page say of a run, in their order."""
    modules = [
        importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__) if m.name[0] != "_"
    ]
    found = [
        module.section(run) for module in sorted((m for m in modules if hasattr(m, "PLACE")), key=lambda m: m.PLACE)
    ]
    return [one for one in found if one]
