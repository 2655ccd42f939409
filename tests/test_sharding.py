"""The same step on one device and on four."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

SCRIPT = """
import sys
import jax, numpy as np, jax.numpy as jnp
from ml_collections import FrozenConfigDict
from configs import default
from pneumojax import classify, finetune, loop, models, sharding

config = default.get_config().classifier
config.update({"batch_size": int(sys.argv[2]), "learning_rate": 0.01, "predict_batch_size": 12})
config = FrozenConfigDict(config)
model = models.load("resnet18")(num_classes=2, width=4)
table = np.random.default_rng(0).integers(0, 255, (24, 48, 48), np.uint8)
variables = classify.init(jax.random.key(0), model, 48)
recipe = classify.Recipe(model, config, finetune.choose(model, 48, variables, config, frozenset()))
trained, frozen = finetune.split(variables, recipe.tuning)
state = classify.start(recipe, trained)
pool = loop.make_pool(np.arange(24, dtype=np.int32), 24)
state, table = sharding.replicate(state), sharding.replicate(table)
labels = sharding.replicate(np.arange(24, dtype=np.int32) % 2)
for step in range(2):
    numbers, key = np.array([step], np.int32), jax.random.key(1)
    rows = classify.rows_of_steps(pool, key, numbers, recipe)
    state, metrics = classify.advance(state, frozen, numbers, jnp.float32(2), table, labels, rows, key, recipe)
logits = classify.predict(classify.variables_of(state, frozen), table, np.arange(24), recipe)
np.savez(sys.argv[1], devices=jax.device_count(), loss=metrics["loss"], logits=logits,
         mean=state.batch_stats["bn1"]["mean"])
"""


def run(path: Path, devices: int, batch_size: int) -> dict:
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {flags}", "PYTHONPATH": "."}
    command = [sys.executable, "-c", SCRIPT, str(path), str(batch_size)]
    subprocess.run(command, check=True, env=environment, cwd=Path(__file__).parents[1])
    with np.load(path) as arrays:
        return dict(arrays)


def test_four_devices_compute_what_one_does(tmp_path):
    """Also batch norm's statistics, which are those of the global batch."""
    one, four = (run(tmp_path / f"{n}.npz", n, 8) for n in (1, 4))
    assert (int(one["devices"]), int(four["devices"])) == (1, 4)
    for name in ("loss", "logits", "mean"):
        np.testing.assert_allclose(one[name], four[name], rtol=1e-4, atol=1e-5)


def test_a_batch_that_the_devices_do_not_divide(tmp_path):
    one, four = (run(tmp_path / f"{n}.npz", n, 6) for n in (1, 4))
    np.testing.assert_allclose(one["logits"], four["logits"], rtol=1e-4, atol=1e-5)
