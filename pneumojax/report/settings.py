"""Config, environment, time."""

import json

from pneumojax.data import levels
from pneumojax.run import Run

PLACE = 90


def section(run: Run) -> dict:
    """All that the numbers depend on."""
    texts = (json.loads(run.config.to_json()), run.results["environment"], run.results["timings_s"])
    note = f"Data fingerprint {run.results['data']['fingerprint']}. Times are in seconds, over all starts."
    gray = run.results["data"].get("gray", {})
    sets = {"Gray values": gray} | {f"Gray values of {name}": facts for name, facts in gray.get("external", {}).items()}
    said = [{"note": f"{of}: {levels.words(facts)}."} for of, facts in sets.items() if levels.words(facts)]
    blocks = [{"note": note}, *said, *({"text": json.dumps(text, indent=1)} for text in texts)]
    return {"title": "Config, environment, time", "blocks": blocks}
