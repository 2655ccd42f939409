"""The systems of the paper's table 3: their networks, their configs, and the table of their runs."""

import re
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from runs import call, error_of

from experiments import table3
from pneumojax import config, models, paper
from pneumojax import run as runs
from pneumojax.models.liang2019 import Block
from pneumojax.run import Run

ROOT = Path(__file__).parents[1]
CONFIGS = ("kermany2018", "kermany2018_squeezenet", "stephen2019", "saraiva2019", "liang2019", "wu2020")


def traced(name: str, size: int):
    """What one image's way through a network computes, and the shapes of its parameters."""
    model = models.load(name)(num_classes=2)
    images = jnp.zeros((1, size, size, 3))
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), images))
    return str(jax.make_jaxpr(model.apply)(variables, images)), variables["params"]


@pytest.mark.parametrize(
    ("name", "convolutions", "dense"), [("stephen2019", 4, 2), ("saraiva2019", 7, 3), ("liang2019", 49, 2)]
)
def test_layers_are_as_many_as_is_stated(name, convolutions, dense):
    """Counted in what is computed, and in the kernels."""
    program, params = traced(name, 200)
    assert len(re.findall(r"= conv_general_dilated\[", program)) == convolutions
    assert len(re.findall(r"= dot_general\[", program)) == dense
    kernels = [leaf.ndim for leaf in jax.tree.leaves(params) if leaf.ndim > 1]
    assert (kernels.count(4), kernels.count(2), len(kernels)) == (convolutions, dense, convolutions + dense)


def test_stephens_layers_are_the_stated_ones():
    _, params = traced("stephen2019", 200)
    assert [params[f"convolution_{number}"]["kernel"].shape for number in range(1, 5)] == [
        *((3, 3, 3, 32), (3, 3, 32, 64), (3, 3, 64, 128), (3, 3, 128, 128))
    ]
    assert params["dense_1"]["kernel"].shape == (10 * 10 * 128, 512)  # 200 → 198 → 99 → 97 → 48 → 46 → 23 → 21 → 10
    assert params["head"]["kernel"].shape == (512, 2)


def test_liangs_network_is_residual_and_dilated():
    program, params = traced("liang2019", 224)
    assert len(re.findall(r"rhs_dilation=\(2, 2\)", program)) == 24  # two layers of six blocks
    still = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), params["layer1_1"])
    block, x = Block(32, 1, 1), jnp.abs(jax.random.normal(jax.random.key(0), (2, 9, 9, 32)))
    variables = block.init(jax.random.key(1), x, False)
    assert jnp.array_equal(block.apply({**variables, "params": still}, x, False), x)  # its convolutions give nothing
    halved = Block(64, 2, 1)
    variables = jax.tree.map(jnp.zeros_like, halved.init(jax.random.key(1), x, False))
    y = halved.apply(variables, x, False)
    assert y.shape == (2, 5, 5, 64)
    assert jnp.array_equal(y[..., :32], x[:, ::2, ::2])
    assert not y[..., 32:].any()


@pytest.mark.parametrize("name", [*CONFIGS, "table3"])
def test_every_field_says_whether_it_is_stated_or_ours(name):
    lines = (ROOT / "configs" / f"{name}.py").read_text().splitlines()
    fields = [number for number, line in enumerate(lines) if re.match(r"    c(\.\w+)+ = ", line)]
    assert fields
    for number in fields:
        comment = lines[number].partition("  # ")[2] or lines[number - 1]
        assert re.search(r"\b(stated|ours)\b", comment), lines[number]


def of_config(name: str, **fields):
    """A run, as far as `cited` looks at it."""
    flags = [f"--config.{field}={value}" for field, value in fields.items()]
    c = config.load(str(ROOT / f"configs/{name}.py"), flags)
    return SimpleNamespace(config=config.frozen(c))


@pytest.mark.parametrize("name", CONFIGS)
def test_all_systems_are_run_alike_beside_what_is_cited(name):
    run = of_config(name)
    c, row = run.config, table3.cited(run)
    assert (c.protocols, c.arms, c.enlarge) == (("official", "patient_kfold", "clean"), ("without_gan",), 1.0)
    assert row.figure == paper.TABLE_3[name.partition("_")[0]].figure
    assert ("SUBSTITUTE for inception_v3" in row.system) == (name == "kermany2018_squeezenet")
    assert c.classifier.batch_size <= 0.8 * sum(c.data.subset)  # or `clean` could not be run


def test_what_is_not_in_the_table_is_not_cited():
    assert table3.cited(of_config("resnet18")).figure == "99.00"
    for name in ("squeezenet", "demo"):
        assert table3.cited(of_config(name, **{"model.name": "googlenet"})) == table3.NOT_CITED


def test_a_cited_network_under_another_system_is_not_what_is_cited():
    pairs = (("resnet18", "frozen_probe"), ("resnet18", "forest"), ("stephen2019", "forest"), ("wu2020", "finetune"))
    for network, system in pairs:
        assert table3.cited(of_config("table3", **{"model.name": network, "system.name": system})) == table3.NOT_CITED


def finished(name: str, **of_protocols) -> Run:
    """A finished run of a config, as its results.json has the ARMs."""
    return Run(Path("run"), of_config(name).config, {"protocols": of_protocols}, {}, {}, {}, {})


def summary(**means) -> dict:
    return {
        "mean": means,
        "std": dict.fromkeys(means, 0.01),
        "interval": {score: (mean - 0.05, mean + 0.05) for score, mean in means.items()},
    }


def test_the_table_of_runs(monkeypatch, capsys):
    """A row an arm, a cell a head; `clean` is scored on unseen images, and what was not run is a dash."""
    scores = summary(accuracy=0.9, auc=0.95, recall_normal=0.8, recall_pneumonia=0.925)
    lost = {"step": 9, "metric": "constant features", "checkpoint": None}
    trials = [{"trial": t, "test": 624, "unseen": {"images": 5200 + t}} for t in range(2)]
    official, clean = ({"without_gan": {"trials": trials, **own}} for own in (scores, {"unseen": scores}))
    found = {
        "wu": finished("wu2020", official=official, clean=clean),
        "lost": finished("kermany2018_squeezenet", clean={"without_gan": {"diverged": lost}}),
    }
    monkeypatch.setattr(runs, "load", lambda workdir: found[workdir.name])
    assert call(table3.main, *found) == (0, "")
    heads, rule, *rows = capsys.readouterr().out.splitlines()
    heads, *rows = ([cell.strip() for cell in row.strip("|").split("|")] for row in (heads, *rows))
    assert {len(row) for row in (heads, *rows)} == {rule.count("---")} == {17}
    wu, lost = (dict(zip(heads, row, strict=True)) for row in rows)
    assert list(wu.values())[:5] == [
        *("Wu 2020", "97.00", "average over a split of its own"),
        *("wu2020, 200 pixels, under a forest, on kermany", "without_gan"),
    ]
    assert (wu["official: n"], wu["clean, unseen: n"]) == ("2 × 624", "5200, 5201")
    assert wu["official: accuracy"] == "90.0 ± 1.0 (a) [85.0, 95.0]"
    assert wu["clean, unseen: AUC"] == "95.0 ± 1.0 (a) [90.0, 100.0]"
    assert wu["clean, unseen: recall of each class"] == "80.0 ± 1.0 / 92.5 ± 1.0"
    assert wu["patient_kfold: accuracy"] == lost["official: AUC"] == "–"
    assert lost["clean, unseen: accuracy"] == "diverged"
    assert lost["system"] == "Kermany 2018, SUBSTITUTE for inception_v3"


def test_a_workdir_that_is_none(tmp_path):
    [error] = error_of(call(table3.main, tmp_path), 2)
    assert "not the workdir of a finished run" in error
