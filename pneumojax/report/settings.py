"""Config, environment, time."""

import json

from pneumojax.data import levels
from pneumojax.run import Run

PLACE = 90


def section(run: Run) -> dict:
    """All that the numbers depend on."""
    texts = (json.loads(run.config.to_json()), run.results["environment"], run.results["timings_s"])
    notes = [f"Data fingerprint {run.results['data']['fingerprint']}. Times are in seconds, over all starts."]
    gray = run.results["data"].get("gray", {})
    sets = {"Gray values": gray} | {f"Gray values of {name}": facts for name, facts in gray.get("external", {}).items()}
    notes += [f"{of}: {said}." for of, facts in sets.items() if (said := levels.words(facts))]
    if others := run.results["environment"].get("also"):
        notes.append(f"Parts of this run were made under other code or settings: {len(others)} others, listed below.")
    blocks = [*({"note": note} for note in notes), *({"text": json.dumps(text, indent=1)} for text in texts)]
    return {"title": "Config, environment, time", "blocks": blocks}
