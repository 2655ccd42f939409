"""Weights & Biases. Offline, by WANDB_MODE=offline, a folder is left that `wandb sync` sends later."""

from pathlib import Path

from pneumojax.errors import BadInput, describe
from pneumojax.sinks import Record


def send(record: Record, project: str) -> str:
    """Makes a run: curves over steps of their own, scores as its summary. Returns: its address, or folder."""
    import wandb

    # Nothing of the machine that sends: it may not be the one that has trained.
    quiet = {f"x_disable_{what}": True for what in ("meta", "stats", "machine_info")}
    settings = wandb.Settings(host="", console="off", disable_git=True, x_save_requirements=False, **quiet)
    try:
        with wandb.init(project=project, name=record.name, config=record.fields, settings=settings) as run:
            for stage in dict.fromkeys(stage for stage, _, _ in record.curves):
                run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")  # stages begin anew at step 0
            for stage, step, values in record.curves:
                run.log({f"{stage}/step": step, **{f"{stage}/{name}": value for name, value in values.items()}})
            run.summary.update(record.scores)
            for path in record.files:
                run.save(path, base_path=path.parent, policy="now", glob=False)
            return run.url or str(Path(run.dir).parent)
    except wandb.Error as error:
        raise BadInput(f"wandb did not take the run: {describe(error)}") from error
