"""The numbers of our own curves, written as they come for TensorBoard, Trackio, W&B and MLflow too: offline, in the job folder.

An attempt that goes on writes the files anew from the events, so that what a killed one had logged too far is not in them.
W&B runs in its offline mode (a worker is given no secret): `wandb sync` sends them later.
"""

import importlib.util
import logging
import os
import shutil
from pathlib import Path
from typing import Any, Protocol

from codex_space.core.errors import RecipeError
from codex_space.core.events import Event, current_events, iter_events
from codex_space.core.shared_recipe import BaseRecipe, TrainingRecipe
from codex_space.work.attempt import Attempt

log = logging.getLogger(__name__)
_NEEDS = {
    "tensorboard": ("tensorboard",),
    "trackio": ("trackio",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow", "sqlalchemy", "alembic"),
}
_INSTALL = {"mlflow": "mlflow-skinny sqlalchemy alembic"}


def require(recipe: BaseRecipe) -> None:
    """Refuse a tracker that is not installed, before anything is loaded.

    Raises:
        RecipeError: It names the line that installs it.
    """
    section = recipe.track if isinstance(recipe, TrainingRecipe) else None
    for name in section.to if section else []:
        if not all(importlib.util.find_spec(module) for module in _NEEDS[name]):
            cure = f"Run: pip install {_INSTALL.get(name, name)}"
            raise RecipeError(f"{name} is not installed here", where="track.to", cure=cure)


class _Tracker(Protocol):
    """One place the numbers go to; its files lie under `folder`."""

    def __init__(self, folder: Path, project: str, name: str) -> None: ...

    def write(self, step: int, t: float, metrics: dict[str, float]) -> None: ...

    def close(self) -> None: ...


class _TensorBoard:
    def __init__(self, folder: Path, project: str, name: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / project / name), flush_secs=10)

    def write(self, step: int, t: float, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step, walltime=t)

    def close(self) -> None:
        self._writer.close()


class _Trackio:
    def __init__(self, folder: Path, project: str, name: str) -> None:
        os.environ["TRACKIO_DIR"] = str(folder)  # noqa: TID251  # it is read once, at the import
        import trackio

        self._run = trackio.init(project, name=name, embed=False, auto_log_gpu=False, auto_log_cpu=False)

    def write(self, step: int, t: float, metrics: dict[str, float]) -> None:
        self._run.log(metrics, step=step)

    def close(self) -> None:
        self._run.finish()


class _Wandb:
    def __init__(self, folder: Path, project: str, name: str) -> None:
        import wandb

        folder.mkdir(parents=True)
        quiet: dict[str, Any] = {"console": "off", "silent": True, "disable_git": True, "disable_code": True}
        settings = wandb.Settings(x_disable_stats=True, x_disable_meta=True, **quiet)
        self._run = wandb.init(mode="offline", project=project, name=name, id=name, dir=str(folder), settings=settings)

    def write(self, step: int, t: float, metrics: dict[str, float]) -> None:
        self._run.log(metrics, step=step)

    def close(self) -> None:
        self._run.finish()


class _MLflow:
    def __init__(self, folder: Path, project: str, name: str) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric

        folder.mkdir(parents=True)
        self._metric = Metric
        self._client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
        experiment = self._client.create_experiment(project, artifact_location=folder.as_uri())
        self._run_id = self._client.create_run(experiment, run_name=name).info.run_id

    def write(self, step: int, t: float, metrics: dict[str, float]) -> None:
        at_ms = int(1000 * t)
        values = [self._metric(name, value, at_ms, step) for name, value in metrics.items()]
        self._client.log_batch(self._run_id, metrics=values, synchronous=True)

    def close(self) -> None:
        self._client.set_terminated(self._run_id)


_TRACKERS: dict[str, type[_Tracker]] = {
    "tensorboard": _TensorBoard,
    "trackio": _Trackio,
    "wandb": _Wandb,
    "mlflow": _MLflow,
}


class Trackers:
    """Those the recipe names; one that fails is dropped with a warning, since the numbers are in our events anyway."""

    def __init__(self, attempt: Attempt) -> None:
        """Open them, and hand on what earlier attempts logged up to the step this one goes on from."""
        self._attempt = attempt
        section = attempt.recipe.track if isinstance(attempt.recipe, TrainingRecipe) else None
        self._open: dict[str, _Tracker] = {}
        if section is None:
            return
        root = attempt.job.tracking
        shutil.rmtree(root, ignore_errors=True)
        for name in dict.fromkeys(section.to):
            try:
                self._open[name] = _TRACKERS[name](root / name, section.project, attempt.job.root.name)
            except Exception as error:  # noqa: BLE001  # a tracker's own; training does not depend on it
                self._drop(name, error)
        for event in _logged(attempt):
            self.write(int(event["step"]), float(event["t"]), event["metrics"])

    def write(self, step: int, t: float, metrics: dict[str, float]) -> None:
        """Hand the numbers of a step to each."""
        for name, tracker in list(self._open.items()):
            try:
                tracker.write(step, t, metrics)
            except Exception as error:  # noqa: BLE001  # as above
                self._drop(name, error)

    def close(self) -> None:
        """Flush and end each."""
        for name, tracker in list(self._open.items()):
            try:
                tracker.close()
            except Exception as error:  # noqa: BLE001  # as above
                self._drop(name, error)

    def _drop(self, name: str, error: Exception) -> None:
        self._open.pop(name, None)
        log.warning("%s writes no more: %s", name, error)
        self._attempt.say("warning", text=f"{name} writes no more ({type(error).__name__}): {error}"[:500])


def _logged(attempt: Attempt) -> list[Event]:
    kept = current_events(event for event in iter_events(attempt.job.events) if event["e"] in {"attempt", "log"})
    return [event for event in kept if event["e"] == "log"]
