"""What `python -m pneumojax.gan.evaluate` measured of the GANs, real images in their place beside."""

from pneumojax.report import samples
from pneumojax.run import Run

PLACE = 72
HEADS = (
    "images",
    "trial, protocol, class",
    "n",
    "KID",
    "KID, same size",
    "FID",
    "precision",
    "recall",
    "density",
    "coverage",
)
HEADS += ("copies", "told from real (AUC)")
REFERENCES = {
    "held_out": "real images of yet other patients: the floor",
    "through_gan_size": "real images of yet other patients, through the GAN's size",
    "training_copies": "copies of the training images: the cheat",
    "other_class": "real images of another class",
    "noise": "noise: real images whose pixels change places",
}
NEAREST = "The generated images (synthetic, left) that lie nearest to an image that the GAN was trained on (right)."
COMPARED = ("held_out", "other_class", "noise")
NOTE = (
    "Generated images (synthetic) and, in their place, real ones, held against held-out patients of whom the GAN saw "
    "no image, as {features} sees them. KID and FID compare with real images as they are, all other columns with "
    "real images through the GAN's size. ± is the deviation of a bootstrap by patient. Copies: the share that lies "
    "nearer to a training image than 95% of held-out patients' images do, with its 95% interval; what copies nothing "
    "has 5%."
)


def section(run: Run) -> dict | None:
    """A sentence a GAN, and the table; nothing where it was not measured."""
    quality = run.results["gan"].get("quality")
    if not quality:
        return None
    rows = [{"lead": ["generated", of(one), count(one)], "cells": cells(one)} for one in quality["gans"]]
    for kind, title in REFERENCES.items():
        for one in quality["references"][kind]["by_gan"]:
            rows.append({"lead": [title, of(one), count(one)], "cells": cells(one)})
    sentences = [{"note": sentence(one, beside(quality, index))} for index, one in enumerate(quality["gans"])]
    note = {"note": NOTE.format(features=quality["features"])}
    blocks = [note, *sentences, {"table": {"heads": HEADS, "rows": rows}}]
    return {"title": "Quality of the generated images", "blocks": blocks + nearest(run, quality["gans"])}


def nearest(run: Run, gans: list[dict]) -> list[dict]:
    """The nearest pairs of the first trial's GANs, as far as the pictures are there."""
    pairs = {
        of(one): run.workdir / one["picture"] for one in gans if one["trial"] == gans[0]["trial"] and "picture" in one
    }
    there = [(f"nearest pairs: {name}", samples.shown(path)) for name, path in pairs.items() if path.exists()]
    return [{"note": NEAREST}, {"pictures": there}] if there else []


def of(row: dict) -> str:
    """Which GAN and class."""
    return f"trial {row['trial']}, {row['protocol']}, {row['class']}"


def count(row: dict) -> str:
    """Images against real ones."""
    return f"{row['n_generated']} / {row['n_real']}"


def cells(row: dict) -> list[tuple[str, str]]:
    """A row's numbers."""
    same = row.get("same_size", {"kid": {"value": None, "std": None}})
    interval = row.get("copy_interval")
    copies = f"{100 * interval[0]:.1f} … {100 * interval[1]:.1f}" if interval else ""
    plain = [(shown(row[name], "{:.2f}"), "") for name in ("precision", "recall", "density", "coverage")]
    return [
        distance(row["kid"]),
        distance(same["kid"]),
        (shown(row["fid"], "{:.1f}"), "mostly bias" if "fid" in row["reasons"] and row["fid"] is not None else ""),
        *plain,
        (shown(row["copy_rate"], "{:.1%}"), copies),
        (shown(row["tell_auc"], "{:.3f}"), ""),
    ]


def shown(value: float | None, form: str) -> str:
    """A number, or that there is none."""
    return "–" if value is None else form.format(value)


def distance(kid: dict) -> tuple[str, str]:
    """A KID and its deviation."""
    return shown(kid["value"], "{:.3f}"), "" if kid["std"] is None else f"± {kid['std']:.3f}"


def beside(quality: dict, index: int) -> dict[str, dict]:
    """The rows of real images beside a GAN's."""
    return {kind: quality["references"][kind]["by_gan"][index] for kind in REFERENCES}


def sentence(row: dict, real: dict[str, dict]) -> str:
    """What a GAN's numbers come to, in words; of KIDs to real images through the GAN's size."""
    if row["kid"]["value"] is None:
        return f"{of(row)}: not measured: {'; '.join(row['reasons'].values())}."
    kid, floor, other, noise = (one["same_size"]["kid"]["value"] for one in (row, *(real[k] for k in COMPARED)))
    deviation = real["held_out"]["same_size"]["kid"]["std"]
    if row["collapsed"]:
        verdict = f"collapsed: {row['collapsed']}"
    elif kid > noise / 2:
        verdict = "noise, or nearly so: more than half as far from real images as noise is"
    elif kid <= floor + 2 * (deviation or 0):
        verdict = "as near to real images as those of other patients are to one another"
    elif kid <= other:
        verdict = "further from real images than those of other patients, not as far as those of another class"
    else:
        verdict = "further from real images of its class than those of another class are"
    side = "above" if kid >= floor else "below"
    beyond = f", {abs(kid - floor) / deviation:.0f} of the floor's deviations {side} it" if deviation else ""
    text = f"{of(row)}: {verdict} (KID at the same size {kid:.3f}{beyond}; noise has {noise:.3f})"
    if row["copy_rate"] is not None and row["copy_rate"] > row["copy_honest"][1]:
        text += f". Copies: {row['copy_rate']:.0%} lie nearer to a training image than what copies nothing does"
    return text + "."
