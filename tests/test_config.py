"""Configs: read from a file, completed by the modules that it names, changed by flags, and refused in one line."""

import ast
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict, FrozenConfigDict

from configs import default
from pneumojax import config, gan, lookup, models, study
from pneumojax.errors import BadInput, Stopped

ROOT = Path(__file__).parents[1]
DEMO = "configs/demo.py"


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def file(tmp_path):
    """Writes a config file: lines that change `c`, which is default.py's."""

    def write(*lines: str) -> str:
        path = tmp_path / "mine.py"
        body = "\n    ".join(("c = default.get_config()", *lines, "return c"))
        path.write_text(f"from configs import default\ndef get_config(trial=None):\n    {body}\n")
        return str(path)

    return write


@pytest.fixture
def module(monkeypatch):
    """Adds a module of one's own for the time of a test."""

    def add(full_name: str, **attributes) -> None:
        monkeypatch.setitem(sys.modules, full_name, SimpleNamespace(**attributes))

    return add


def refusal(*flags: str, path: str = DEMO) -> str:
    with pytest.raises(BadInput) as caught:
        config.load(path, flags)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--config.gan.steps=many"], "config.gan.steps='many': give a whole number, e.g. 60"),
        (["--config.gan.steps="], "config.gan.steps='': give a whole number, e.g. 60"),
        (["--config.gan.steps"], "--config.gan.steps has no value; give --config.gan.steps=VALUE"),
        (["--config.data.dir", "--config.data.name=folder"], "--config.data.dir has no value; give "),
        (["--config.gan.flip=perhaps"], "config.gan.flip='perhaps': give True or False"),
        (["--config.gan.beta1=inf"], "config.gan.beta1=inf: give a finite number, e.g. 0.5"),
        (
            ["--config.trials={2, 1}"],
            "config.trials='{2, 1}': give a tuple, e.g. \"('clean', 'paper')\" or '(0, 1, 2)'",
        ),
        (["--config.gan.beta2=1"], "config.gan.beta2=1.0: give 0 or more, below 1"),
        (["--config.gan.steps=2147483648"], "config.gan.steps=2147483648: give at most 2,147,483,647"),
        (["--config.trials=(1, 2"], "config.trials='(1, 2': give a tuple, e.g. \"('clean', 'paper')\" or '(0, 1, 2)'"),
        (["--config.gan.stepz=5"], "config.gan.stepz is not a field; did you mean config.gan.steps?"),
        (
            ["--config.classifier.rotatoin=4"],
            "config.classifier.rotatoin is not a field; did you mean config.classifier.rotation?",
        ),
        (["--config.zzz=5"], "config.zzz is not a field; see configs/default.py for the fields"),
        (["--config.trials[0]=5"], "config.trials[0] is not a field; did you mean config.trials?"),
        (["--confg.seed=1"], "--confg.seed=1 is not a flag; fields are set by --config.a.b=value"),
        (["--config.seed", "1", "2"], "unknown argument '2'; fields are set by --config.a.b=value"),
        (["--config.model.name=vgg"], "config.model.name='vgg' is not known here; use one of alexnet, densenet121"),
        (["--config.system.name=oracle"], "config.system.name='oracle' is not known here; use one of "),
    ],
)
def test_a_wrong_flag_is_one_line(flags, line):
    assert refusal(*flags).startswith(line)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--config.protocols=('sloppy',)"], ("config.protocols", "clean, paper")),
        (["--config.gan.name=stylegan9"], ("config.gan.name", "dcgan")),
        (["--config.model.weights=nowhere.pth"], ("config.model.width", "give 64")),
        (
            ["--config.model.width=64", "--config.model.weights=nowhere.pth"],
            ("nowhere.pth is not there", ".safetensors"),
        ),
        (["--config.classifier.mode=head"], ("config.classifier.mode", "config.model.weights")),
        (["--config.data.name=kermany"], ("config.data.dir", "--config.data.dir=DIR")),
        (["--config.data.subset=(500,20)"], ("asks for 500 NORMAL", "240 to draw from")),
        (["--config.gan.batch_size=50"], ("config.gan.batch_size=50", "48 images")),
        (["--config.classifier.batch_size=130"], ("config.classifier.batch_size", "128 im")),
        (["--config.gan.image_size=65"], ("config.gan.image_size=65", "64 pixels")),
        (
            ["--config.model.name=alexnet", "--config.model.image_size=32"],
            ("config.model.image_size=32", "alexnet"),
        ),
    ],
)
def test_bad_flags_and_fields(tmp_path, flags, words):
    with pytest.raises(BadInput) as caught:
        study.run(config.load(DEMO, flags), tmp_path / "run")
    assert all(word in str(caught.value) for word in words), caught.value
    # the corrected command line may use the same workdir
    assert not (tmp_path / "run" / "config.json").exists()


def test_flags_have_the_types_of_their_fields():
    c = config.load(DEMO, ["--config.seed", "3", "--config.enlarge=5", "--config.gan.flip=false", "--config.arms=mine"])
    assert (c.seed, c.enlarge, c.gan.flip, c.arms) == (3, 5.0, False, ("mine",))
    assert isinstance(c.enlarge, float)
    assert config.load(DEMO, ["--config.data.dir=a=b --c"]).data.dir == "a=b --c"


def test_the_last_of_a_field_counts():
    flags = ["--config.data.subset=(10,10)", "--config.seed=1", "--config.data.subset=(12,20)", "--config.seed=2"]
    c = config.load(DEMO, flags)
    assert (c.data.subset, c.seed) == ((12, 20), 2)


def test_a_config_is_whole_locked_and_plain():
    c = config.load(DEMO)
    assert c.is_locked
    assert c.gan.is_locked
    assert (c.model.width, c.gan.filters, c.data.fit) == (8, 12, "stretch")
    assert json.loads(c.to_json())["model"]["width"] == 8
    assert (
        config.load("configs/googlenet.py").model.to_dict().items() >= {"width": 64, "transform_input": False}.items()
    )


@pytest.mark.parametrize("path", [p for p in sorted((ROOT / "configs").glob("*.py")) if p.stem != "__init__"])
def test_every_shipped_config_loads(path):
    assert config.load(str(path)).trials == tuple(range(6 if path.stem == "augmentation" else 3))


def test_a_file_may_take_an_argument(file):
    path = file("c.trials = (int(trial or 0),)")
    assert config.load(path).trials == (0,)
    assert config.load(f"{path}:7").trials == (7,)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("c.classifier.rotatoin = 40", ("rotatoin is not a field", "did you mean config.classifier.rotation?")),
        ("c.new = type(c)({'deep': 1})", ("config.new.deep is not a field",)),
        ("c.model.width = 'wide'", ("config.model.width='wide': give a whole number",)),
        ("c.seed = True", ("config.seed=True: give a whole number",)),
        ("c.trials = 'all'", ("mine.py cannot be used: TypeError", "trials")),
        ("c.model.width = 8.5", ("config.model.width=8.5: give a whole number",)),
        ("c.data.external = ({'name': 1j},)", ("config.data.external=",)),
        ("raise KeyError('lost')", ("mine.py cannot be used: KeyError: 'lost'",)),
        ("return None", ("mine.py cannot be used: TypeError",)),
    ],
)
def test_a_wrong_file_is_one_line(file, line, words):
    message = refusal(path=file(line))
    assert all(word in message for word in words), message


def test_a_file_that_is_not_there():
    assert refusal(path="configs/nowhere.py") == "--config=configs/nowhere.py is not there; give e.g. configs/demo.py"


def test_what_a_file_leaves_out_is_completed(tmp_path):
    path = tmp_path / "bare.py"
    path.write_text("def get_config():\n    return {'gan': {'filters': 16}, 'enlarge': 3}\n")
    c = config.load(str(path))
    assert (c.gan.filters, c.enlarge, c.gan.steps, c.model.width) == (16, 3.0, 0, 64)


def test_a_module_declares_fields_of_its_own(module, file):
    """Those of a GAN and of a system are known where it is named, in the file or by a flag, and nowhere else."""
    contract = dict.fromkeys(("CONDITIONAL", "init", "step", "sample"))
    module("pneumojax.gan.mine", DEFAULTS={"penalty": 10.0, "layers": (1, 2)}, **contract)
    module("pneumojax.systems.forest", DEFAULTS={"trees": 500}, logits=None)
    assert "config.gan.penalty is not a field" in refusal("--config.gan.penalty=1")
    names = ["--config.system.name=forest", "--config.gan.name=mine"]
    c = config.load(DEMO, [*names, "--config.gan.penalty=0", "--config.system.trees=9"])
    assert (c.gan.penalty, c.gan.layers, c.system.trees) == (0.0, (1, 2), 9)
    assert config.load(file("c.gan.name = 'mine'", "c.gan.penalty = 2")).gan.penalty == 2.0
    assert "did you mean config.gan.penalty?" in refusal(*names, "--config.gan.penaltie=1")
    assert "config.system.trees='x': give a whole number" in refusal(*names, "--config.system.trees=x")
    module("pneumojax.gan.mine", DEFAULTS={"beta1": 0.0}, **contract)
    assert "config.gan.name='mine' declares config.gan.beta1" in refusal(*names)


class Linear(nn.Module):
    """A classifier that has no width."""

    num_classes: int = 2
    hidden: int = 5
    norm: type = nn.BatchNorm

    WITH_WEIGHTS = {"hidden": 7}

    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(self.num_classes)(nn.Dense(self.hidden)(jnp.mean(x, (1, 2))))


def test_a_model_is_built_from_its_own_fields(module, file):
    module("pneumojax.models.linear", Model=Linear)
    assert models.fields("linear") == {"hidden": 5}
    assert models.fields("googlenet") == {"width": 64, "auxiliary_heads": False, "transform_input": False}
    c = config.load(file("c.model.name = 'linear'", "c.model.hidden = 3"))
    model = models.build(config.frozen(c).model, 4)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    assert variables["params"]["Dense_0"]["kernel"].shape == (3, 4)
    assert "config.model.width is not a field" in refusal("--config.model.width=8", path=file("c.model.name='linear'"))
    line = refusal("--config.model.weights=x.pth", path=file("c.model.name='linear'", "c.model.hidden = 3"))
    assert line.startswith("config.model.hidden=3: weights are of the published network; give 5, or")
    assert models.build(config.load(file("c.model.name='linear'", "c.model.weights='x.pth'")).model, 2).hidden == 7


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("trials", value) for value in ((), (0, 0), (-1,), (True,), (0.0,), (3_000_000_000,), ("0",), ((0,),))),
        *(("seed", value) for value in (-1, True)),
        *(("protocols", value) for value in ((), ("clean", "clean"), ("sloppy",), (["clean"],))),
        *(("arms", value) for value in ((), ("with_gan", "with_gan"), ("",), (1,))),
        *(("enlarge", value) for value in (0.5, float("nan"), float("inf"))),
        *(
            ("data.classes", value)
            for value in ((), ("A",), ("A", "A"), ("A", "a"), ("\u00e9", "e\u0301"), ("A", "b/c"), ("A", ""), ("A", 1))
        ),
        *(("data.subset", value) for value in ((0, 5), (5,), (1, 2, 3), (True, 5), (1.5, 5))),
        ("data.on_bad", "ignore"),
        *(("data.patient_pattern", value) for value in ("(person", "a{1,99999999999}", "(" * 3000 + ")" * 3000)),
        *(("data.test_fraction", value) for value in (0.0, 1.0)),
        ("data.folds", 1),
        *(("data.external", (entry,)) for entry in ("DIR", ("a", "DIR"), {"name": "a"}, {"name": "a", "dir": 1})),
        *(("data.external", ({"name": name, "dir": "x"},)) for name in ("", "a/b", "a b")),
        ("data.external", ({"name": "a", "dir": "x"}, {"name": "a", "dir": "y"})),
        ("data.external", ({"name": "a", "dir": "x", "patient_pattern": "("},)),
        ("data.external", ({"name": "a", "dir": "x", "fit": "pad"},)),
        *(("gan.filters", value) for value in (0, True)),
        ("gan.d_steps", 0),
        ("gan.steps", -1),
        *((field, value) for field in ("gan.beta1", "gan.beta2", "classifier.momentum") for value in (-0.1, 1.0)),
        *((field, 2**31) for field in ("gan.steps", "model.image_size", "classifier.shift")),
        *((field, 3.5e38) for field in ("enlarge", "data.memory", "classifier.rotation")),
        *(("data.phantom_images", value) for value in ((), (0, 20), (2**31, 20))),
        *(("model.allow_missing", value) for value in ((1,), (float("nan"),))),
        ("classifier.optimizer", "lion"),
        ("classifier.shift", -2),
        ("classifier.rotation", -1.0),
        *(("classifier.zoom", value) for value in (-0.1, 1.0)),
        *(("classifier.shear", value) for value in (-1.0, 90.0)),
        ("classifier.warmup", 1.5),
        ("evaluate.score", "f1_macro"),
        *(("evaluate.margin", value) for value in (0.0, 1.0)),
        *(("evaluate.declared", value) for value in (("clean", "test"), ("clean", "test", 3))),
        *(("evaluate.declared", value) for value in (("clear", "test", "with_gan"), ("clean", "inner", "with_gan"))),
    ],
)
def test_values_that_types_let_through(field, value):
    c = default.get_config()
    config.validate(c)
    c.update_from_flattened_dict({field: value})
    with pytest.raises(BadInput, match=f"config.{field}="):
        config.validate(c)


def test_values_at_the_edge_can_stand():
    edge = {"trials": (10_000,), "seed": 3_000_000_000, "enlarge": 1.0, "data.external": (), "classifier.momentum": 0.0}
    three = {"data.classes": ("NORMAL", "BACTERIA", "VIRUS"), "data.subset": (1, 1, 1), "data.phantom_images": (1, 2)}
    sets = ({"name": "a", "dir": "x"}, {"name": "b", "dir": "y", "patient_pattern": r"(\d+)"})
    c = default.get_config()
    c.update_from_flattened_dict(edge | three | {"data.external": sets, "classifier.zoom": 0.99, "gan.beta1": 0.0})
    config.validate(c)
    c.data.name = "phantom"
    with pytest.raises(
        BadInput, match=r"phantom_images=\(1, 2\): give a count above 0 for each of NORMAL, BACTERIA, V"
    ):
        config.validate(c)


def test_an_arm_overrides_fields_of_the_classifier():
    classifier = config.frozen(default.get_config()).classifier
    changed = config.with_overrides(classifier, {"rotation": 10, "flip": True, "optimizer": "adamw"})
    assert isinstance(changed, FrozenConfigDict)
    assert (changed.rotation, changed.flip, changed.optimizer) == (10.0, True, "adamw")
    assert {**classifier, "rotation": 10.0, "flip": True, "optimizer": "adamw"} == {**changed}
    assert hash(config.with_overrides(classifier, {})) == hash(classifier)
    for overrides, line in (
        ({"rotatoin": 10}, "config.classifier.rotatoin is not a field; did you mean config.classifier.rotation?"),
        ({"zoom": 1.0}, "config.classifier.zoom=1.0: give 0 or more, below 1"),
        ({"steps": "many"}, "config.classifier.steps='many': give a whole number, e.g. 60"),
    ):
        with pytest.raises(BadInput) as caught:
            config.with_overrides(classifier, overrides)
        assert str(caught.value) == line


def test_a_frozen_config_can_be_hashed():
    c = default.get_config()
    c.data.external = ({"name": "a", "dir": "x"}, {"name": "b", "dir": "y", "patient_pattern": "p"})
    frozen = config.frozen(json.loads(c.to_json()))
    assert frozen.data.external == (("a", "x", None), ("b", "y", "p"))
    assert isinstance(hash(frozen), int)


def test_differences_are_lines_of_fields():
    old = {"seed": 0, "gan": {"steps": 5, "flip": True}, "gone": {"a": 1}}
    new = {"seed": 0, "gan": {"steps": 6, "flip": True}}
    assert config.flat(old) == {"seed": 0, "gan.steps": 5, "gan.flip": True, "gone.a": 1}
    assert config.flat(ConfigDict(old)) == config.flat(old)
    assert config.differences(old, new) == ["config.gan.steps: 5 there, 6 now", "config.gone.a: 1 there, null now"]


def leaves(c: ConfigDict, prefix: str = "") -> list[str]:
    return [
        leaf
        for key, value in c.items()
        for leaf in (leaves(value, f"{prefix}{key}.") if isinstance(value, ConfigDict) else [f"{prefix}{key}"])
    ]


def test_no_field_is_dead():
    """Every field of the default config is read as an attribute somewhere outside the validation."""
    read = set()
    for path in (ROOT / "pneumojax").rglob("*.py"):
        if path.name not in ("config.py", "rules.py"):
            tree = ast.parse(path.read_text())
            read |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    dead = [field for field in leaves(default.get_config()) if field.split(".")[-1] not in read]
    assert not dead


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of one's own on the disk, in the current directory."""
    folder = tmp_path / "mylab"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "whole.py").write_text("CONDITIONAL = False\ndef init(): ...\ndef step(): ...\ndef sample(): ...\n")
    (folder / "half.py").write_text("CONDITIONAL = False\ndef init(): ...\n")
    (folder / "broken.py").write_text("import nowhere_to_be_found\n")
    (folder / "ends.py").write_text("raise SystemExit\n")
    (folder / "arms.py").write_text("from os.path import join\ndef half(plan): ...\ndef _part(plan): ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield "mylab"
    for name in [name for name in sys.modules if name.partition(".")[0] == "mylab"]:
        del sys.modules[name]


def test_a_module_that_lacks_a_function_is_named(package, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    contract = "CONDITIONAL init step sample"
    assert lookup.names(package, contract) == ["whole"]
    assert lookup.load(package, "whole", contract, "config.gan.name").CONDITIONAL is False
    for name, line in (
        ("half", "config.gan.name='half': mylab/half.py lacks step, sample; use one of whole"),
        ("none", "config.gan.name='none' is not known here; use one of whole"),
        ("os.path", "config.gan.name='os.path' is not known here; use one of whole"),
        (
            "broken",
            "config.gan.name='broken': mylab.broken cannot be imported: ModuleNotFoundError: No module named "
            "'nowhere_to_be_found'",
        ),
    ):
        with pytest.raises(BadInput) as caught:
            lookup.load(package, name, contract, "config.gan.name")
        assert str(caught.value) == line
    assert gan.load("dcgan").CONDITIONAL is False


def test_a_function_is_found_by_its_word_or_path(package):
    found = lookup.function("pneumojax.arms", "mylab.arms.half", "config.arms")
    assert found.__name__ == "half"
    assert lookup.function("mylab.arms", "half", "config.arms") is found
    for word, line in (
        ("mylab.arms.third", "config.arms='mylab.arms.third' is not known here; mylab.arms has half"),
        ("mylab.arms.join", "config.arms='mylab.arms.join' is not known here; mylab.arms has half"),
        ("mylab.legs.half", "config.arms='mylab.legs.half': there is no module mylab.legs here; give package.module"),
        ("mylab.broken.half", "config.arms='mylab.broken.half': mylab.broken cannot be imported: ModuleNotFoundError"),
        ("mylab.ends.half", "config.arms='mylab.ends.half': mylab.ends cannot be imported: RuntimeError: it ends the "),
    ):
        with pytest.raises(BadInput) as caught:
            lookup.function("mylab.arms", word, "config.arms")
        assert str(caught.value).startswith(line)


def test_a_signal_while_modules_are_looked_through_is_not_lost(tmp_path, monkeypatch):
    (tmp_path / "stopping").mkdir()
    (tmp_path / "stopping/one.py").write_text("from pneumojax.errors import Stopped\nraise Stopped(143)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Stopped):
        lookup.names("stopping", "half")


def test_own_configs_find_ours_and_each_other_wherever_they_lie(tmp_path, monkeypatch):
    """From another folder, by absolute path, beside another project's `configs/default.py`, also in get_config."""
    for place in (tmp_path / "here" / "configs", tmp_path / "far"):
        place.mkdir(parents=True)
    (tmp_path / "here/configs/base.py").write_text(
        "from configs import demo\ndef get_config():\n    c = demo.get_config()\n    c.seed = 5\n    return c\n"
    )
    mine = tmp_path / "far/mine.py"
    mine.write_text(
        "def get_config():\n    from configs import base, beside\n    c = base.get_config()\n"
        "    c.enlarge = beside.ENLARGE\n    return c\n"
    )
    (tmp_path / "far/beside.py").write_text("ENLARGE = 3.0\n")
    monkeypatch.chdir(tmp_path / "here")
    own = config.load(str(mine))
    assert (own.seed, own.enlarge, own.data.name) == (5, 3.0, "phantom")
    assert config.load(str(ROOT / DEMO)) == config.load(DEMO)  # ours, where none lies here
    (tmp_path / "far/configs").mkdir()
    (tmp_path / "far/configs/default.py").write_text("raise ValueError('of another project')\n")
    monkeypatch.chdir(tmp_path / "far")
    assert config.load(str(ROOT / DEMO)).enlarge == 3.0


def test_an_installed_package_brings_its_configs(tmp_path):
    """As a wheel lays them out; and pyproject.toml lists all packages that there are."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    package = ROOT / "pneumojax"
    folders = {path.parent for path in package.rglob("*.py")}
    listed = {"pneumojax.configs", *(".".join(("pneumojax", *f.relative_to(package).parts)) for f in folders)}
    assert set(project["packages"]) == listed
    assert project["package-dir"] == {"pneumojax.configs": "configs"}

    shutil.copytree(package, tmp_path / "site/pneumojax")
    shutil.copytree(ROOT / "configs", tmp_path / "site/pneumojax/configs")
    script = "from pneumojax import config; print(config.load('configs/demo.py').data.name, config.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-P", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["phantom", str(tmp_path / "site/pneumojax/config.py")], done.stderr
