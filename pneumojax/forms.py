"""Answers of classifiers as JSON, as CSV, and what must be known of them as lines of the log."""

import json
from typing import NamedTuple

from absl import logging

from pneumojax import saliency
from pneumojax.workdir import csv_of


class Answers(NamedTuple):
    """What is said of images."""

    about: dict  # the same for all of them
    images: list[dict]


def as_json(found: Answers) -> str:
    """A list of images, each with what is known of all of them."""
    return json.dumps([one | found.about for one in found.images], indent=1)


def as_csv(found: Answers) -> str:
    """A line an image under a line of heads, no line for none; what is not known is empty."""
    about, known = found.about, found.about.get("novelty", {})
    rows = []
    for one in found.images:
        spread = one["spread"] or {}
        rows.append(
            {
                **{name: one[name] for name in ("file", "class", "probability")},
                **{f"probability_{name.lower()}": chance for name, chance in one["probabilities"].items()},
                **{f"probability_{name}": spread.get(name) for name in ("std", "min", "max")},
                **{name: one[name] for name in ("distance", "unlike")},
                "unlike_above": known.get("threshold"),
                "false_alarms": known.get("false_alarms"),
                "false_alarms_of_images": known.get("images"),
                **{name: about[name] for name in ("operating_point", "threshold", "calibrated", "trained_on")},
                "classifiers": " ".join(about["classifiers"]),
                **explanation(one),
            }
        )
    columns = {name: ["" if row[name] is None else row[name] for row in rows] for name in rows[0]} if rows else {}
    return csv_of(columns).decode() if rows else ""


def explanation(one: dict) -> dict:
    """The columns of an answer's explanation; none where none was asked for."""
    if not (own := one.get("explanation")):
        return {}
    checks = {
        f"{method}_{which}_anew": own[method].get(which) for method in saliency.METHODS for which in saliency.DRAWN
    }
    return {"picture": own["picture"], **checks}


def say(found: Answers) -> None:
    """What must be known of answers, as lines of the log."""
    about, known = found.about, found.about.get("novelty", {})
    logging.warning("trained on %s. For research, never for a diagnosis", about["trained_on"])
    if not about["calibrated"]:
        logging.info("probabilities are as the networks say them: no temperature is known for all of them")
    if "why" in known:
        logging.info("whether images are like those trained on is not known: %s", known["why"])
    if unlike := [one["file"] for one in found.images if one["unlike"]]:
        logging.warning(
            "%d of %d images (the first is %r) are unlike those that %s was trained on; this is said of %.1f%% of %d "
            "images of %d other patients of its data set",
            *(len(unlike), len(found.images), unlike[0], about["classifiers"][0]),
            *(100 * known["false_alarms"], known["images"], known["patients"]),
        )
