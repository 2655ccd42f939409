"""The last sample grid of each GAN."""

import base64

from pneumojax.run import Run

PLACE = 70
NOTE = (
    "Synthetic: made by the GANs at their last step, none is of a patient. A GAN can still copy what it was trained on."
)


def section(run: Run) -> dict | None:
    """Grids, where any image was generated."""
    if not run.grids:
        return None
    grids = sorted(run.grids.items())
    figures = [(f"generated: {stage.name}", base64.b64encode(path.read_bytes()).decode()) for stage, path in grids]
    return {"title": "Generated images", "blocks": [{"note": NOTE}, {"figures": figures}]}
