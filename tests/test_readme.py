"""The recipes of docs/networks.md for a classifier and a system of one's own, run as they are printed."""

import importlib
import json

import pytest
from runs import printed

from pneumojax import config, models, run, study, systems
from pneumojax.errors import BadInput


@pytest.fixture
def added(tmp_path, monkeypatch):
    """Adds a module to one of pneumojax's packages, as a file of a folder."""

    def add(package, name: str, text: str):
        (tmp_path / package.__name__).mkdir()
        (tmp_path / package.__name__ / f"{name}.py").write_text(text)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / package.__name__)])
        importlib.invalidate_caches()

    return add


def small(tiny_flags, *flags) -> list[str]:
    """A study of one trial and protocol, as flags."""
    return [*tiny_flags[1:], "--config.trials=(0,)", "--config.protocols=('clean',)", *flags]


@pytest.mark.slow
def test_a_classifier_of_ones_own(added, tiny_flags, tmp_path):
    [text] = printed("A classifier of your own")
    added(models, "mine", text)
    flags = small(tiny_flags, "--config.model.name=mine", "--config.model.depth=3")
    c = config.load("configs/demo.py", flags)
    assert (c.model.depth, c.model.width) == (3, 4)
    study.run(c, tmp_path / "run")
    facts = run.load(tmp_path / "run").results["classifier"]
    assert facts["parameters"] == (9 * 3 * 4 + 4) + (9 * 4 * 8 + 8) + (9 * 8 * 16 + 16) + (16 * 2 + 2)
    with pytest.raises(BadInput, match=r"config.model.dept is not a field; did you mean config.model.depth"):
        config.load("configs/demo.py", [*flags, "--config.model.dept=3"])


def test_a_classifier_without_a_width(added):
    [text] = printed("A classifier of your own")
    added(models, "narrow", text.replace("    width: int = 64\n", "").replace("self.width", "8"))
    assert models.fields("narrow") == {"depth": 2}
    with pytest.raises(BadInput, match=r"config.model.width is not a field"):
        config.load("configs/demo.py", ["--config.model.name=narrow"])
    c = config.load("configs/default.py", ["--config.model.name=narrow"])
    assert models.build(c.model, 3).num_classes == 3


def test_a_system_of_ones_own(added, tiny_flags, tmp_path):
    [text] = printed("A system of your own")
    added(systems, "thumbnails", text)
    c = config.load("configs/demo.py", small(tiny_flags, "--config.system.name=thumbnails", "--config.system.side=8"))
    study.run(c, tmp_path / "run")
    done = run.load(tmp_path / "run")
    assert done.results["classifier"] == {"system": "thumbnails", "model": "logistic regression"}
    assert json.loads((tmp_path / "run/config.json").read_text())["system"] == {"name": "thumbnails", "side": 8}
    arms = done.results["protocols"]["clean"]
    assert list(arms) == ["without_gan", "with_gan", "with_gan_epochs"]
    assert arms["without_gan"]["unseen"]["mean"]["auc"] > 0.6  # phantoms can be told apart
    assert "thumbnails" in (tmp_path / "run/report.html").read_text()
    assert [row["arms"] for row in done.results["contrasts"]][0] == ["with_gan", "without_gan"]
