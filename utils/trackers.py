"""Experiment trackers beside Sacred's records: Weights & Biases and MLflow, each imported where it is asked for.

Both write to the results folder and send nothing unless their own environment variables say so: WANDB_MODE=online, or
an address in MLFLOW_TRACKING_URI. A tracker that fails is left out with a warning, and the run goes on.
"""

import importlib.util
import logging
import os
import time
from pathlib import Path
from typing import Any, Protocol

from utils.config import flatten
from utils.dict2namedtuple import Config
from utils.errors import UserError

TRACKERS = {"wandb": "wandb", "mlflow": "mlflow"}
PROJECT = "pymarl"
BATCH = 500  # statistics that are sent to MLflow at once; it takes at most 1,000
LONGEST_PARAM = 500  # characters of a setting that MLflow stores


class Tracker(Protocol):
    def log(self, key: str, value: float, t: int) -> None:
        """Records a statistic at environment step `t`."""

    def close(self) -> None:
        """Writes what is still held back, and ends the tracker's run."""


def check_tracker(name: str | None) -> None:
    """Raises: UserError for a tracker whose package is not installed."""
    if name is not None and importlib.util.find_spec(TRACKERS[name]) is None:
        raise UserError(f"tracker={name} needs a package that is not installed; run: pip install {TRACKERS[name]}")


def open_tracker(name: str, folder: Path, run: str, config: Config) -> Tracker:
    """Returns the tracker of a run. Raises: UserError as `check_tracker`."""
    check_tracker(name)
    folder.mkdir(parents=True, exist_ok=True)
    return Guarded(name, Wandb if name == "wandb" else MLflow, folder.absolute(), run, config)


class Wandb:
    """Weights & Biases; `wandb sync` sends the run later."""

    def __init__(self, folder: Path, run: str, config: Config) -> None:
        import wandb

        self._run = wandb.init(
            mode=os.environ.get("WANDB_MODE", "offline"),  # type: ignore[arg-type]
            dir=str(folder),
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=run,
            config=dict(config),
            settings=wandb.Settings(silent=True, console="off"),  # Sacred captures the console
            reinit="create_new",
        )
        self._run.define_metric("*", step_metric="t_env")

    def log(self, key: str, value: float, t: int) -> None:
        self._run.log({key: value, "t_env": t})

    def close(self) -> None:
        import wandb

        self._run.finish()
        wandb.teardown()  # its process holds the output that Sacred captures open


class MLflow:
    """MLflow; `mlflow ui --backend-store-uri sqlite:///FOLDER/mlflow.db` shows the runs of a folder."""

    def __init__(self, folder: Path, run: str, config: Config) -> None:
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        self._client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder}/mlflow.db")
        found = self._client.get_experiment_by_name(PROJECT)
        experiment = found.experiment_id if found else self._client.create_experiment(PROJECT, str(folder / "mlflow"))
        self._id = self._client.create_run(experiment, run_name=run).info.run_id
        self._late: list[Any] = []
        from mlflow.entities import Param

        params = [Param(key, str(value)[:LONGEST_PARAM]) for key, value in flatten(config)]
        for start in range(0, len(params), 100):
            self._client.log_batch(self._id, params=params[start : start + 100])

    def log(self, key: str, value: float, t: int) -> None:
        from mlflow.entities import Metric

        self._late.append(Metric(key, value, int(1000 * time.time()), t))
        if len(self._late) >= BATCH:
            self._write()

    def _write(self) -> None:
        late, self._late = self._late, []
        if late:
            self._client.log_batch(self._id, metrics=late)

    def close(self) -> None:
        self._write()
        self._client.set_terminated(self._id)


class Guarded:
    """A tracker that costs a warning and not the run when it fails."""

    def __init__(self, name: str, kind: type[Wandb] | type[MLflow], *args: Any) -> None:
        self._name = name
        self._log = logging.getLogger("pymarl")
        self._tracker: Wandb | MLflow | None = None
        self._try(lambda: setattr(self, "_tracker", kind(*args)))

    def _try(self, action: Any) -> None:
        try:
            action()
        except Exception as error:  # of another project's many kinds; none may stop a training
            self._tracker = None
            self._log.warning(f"tracker={self._name} fails ({error!s:.200}); the run goes on without it")

    def log(self, key: str, value: float, t: int) -> None:
        if (tracker := self._tracker) is not None:
            self._try(lambda: tracker.log(key, value, t))

    def close(self) -> None:
        if (tracker := self._tracker) is not None:
            self._try(tracker.close)
        self._tracker = None
