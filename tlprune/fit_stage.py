"""``tlprune fit`` as a stage of a journal: the same command again goes on where it was stopped.

The journal is the folder ``.tlprune`` in the Trainer's ``default_root_dir``. A run's state is written there at the end
of every epoch, and in one process every ten minutes, apart from the checkpoints that the user asked for; it is removed
when the run has ended.
"""

import json
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger

import tlprune
from tlprune.datamodules.arguments import WITHOUT_EFFECT
from tlprune.stopped_fit import End, WatchEnd, cut_short, end_of, put_back, steps_are_pending
from tlprune.storage.atomic import write_bytes
from tlprune.storage.cache import forget
from tlprune.storage.checkpoints import newest_whole
from tlprune.storage.journal import DONE, Done, Journal, Stage
from tlprune.storage.named import class_paths, digest_code, digest_named_files

__all__ = ["FitStage", "files_written"]

_MINUTES = 10

_CHANGES_NOTHING = {
    "trainer": {"logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing", "log_every_n_steps"}
    | {"profiler", "default_root_dir", "accelerator", "devices", "num_nodes", "detect_anomaly"},
    "data": set(WITHOUT_EFFECT),
}
"""Settings of which the outcome is independent; of the data only where it is ours. Ranks are counted apart, and what
``verify_content`` reads is part of what the images are."""


class _State(ModelCheckpoint):
    """The run's state, beside the checkpoints that the user wants, which say nothing of it."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Has nothing to restore."""

    def on_train_batch_end(self, trainer: Trainer, *arguments: Any, **options: Any) -> None:
        """Waits for the optimiser: gradients that were added up so far are in no state."""
        if not steps_are_pending(trainer):
            super().on_train_batch_end(trainer, *arguments, **options)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes an epoch that was cut short for none."""
        if not cut_short(trainer):
            super().on_train_epoch_end(trainer, pl_module)


class FitStage:
    """A run of ``fit``: where its state lies, whether there is any, and what it leaves.

    Args:
        config: The command's configuration, as plain values.
        trainer: Will run it.
        data: What the images are, as JSON values.
    """

    def __init__(self, config: dict[str, Any], trainer: Trainer, data: Any) -> None:
        self.trainer = trainer
        depends = {
            "config": _what_matters(config),
            "data": data,
            "files": digest_named_files([config.get(part) or {} for part in ("model", "data")]),
            "code": {name: digest_code(name) for name in sorted(set(class_paths(config)))},
            "ranks": trainer.world_size,
            "tlprune": tlprune.__version__,
        }
        journal = Journal(Path(trainer.default_root_dir) / ".tlprune")
        self.stage: Stage = journal.stage("fit", depends)

    @property
    def done(self) -> Done | None:
        """What an earlier run left, if it ended and all of it is still there."""
        return self.stage.done

    @property
    def state(self) -> Path | None:
        """The newest state of the run that is whole; None where there is none."""
        return newest_whole(self._states) if self._states.is_dir() else None

    @property
    def _states(self) -> Path:
        return self.stage.folder / "state"

    def start_over(self) -> None:
        """Forgets what was noted of the run."""
        self.stage.forget()

    def keep_state(self) -> None:
        """Has the Trainer write the run's state, and its curves go on where they were."""
        warnings.filterwarnings("ignore", r"Checkpoint directory .*[/\\]\.tlprune[/\\].* exists and is not empty")
        options: dict[str, Any] = {"dirpath": self._states, "enable_version_counter": False}
        states = [_State(filename="epoch", save_on_train_epoch_end=True, **options)]
        if self.trainer.world_size == 1:  # several ranks would ask each other for the time after every batch
            states.append(_State(filename="minutes", train_time_interval=timedelta(minutes=_MINUTES), **options))
        self.trainer.callbacks += [WatchEnd(self.stage.folder), *states]  # type: ignore[attr-defined]
        note = self.stage.folder / "curves.json"
        for logger in self.trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                _keep_version(logger, note, self.trainer.is_global_zero)
            elif isinstance(logger, MLFlowLogger) and self.trainer.is_global_zero:
                _keep_run(logger, note)

    def go_on(self, state: Path) -> None:
        """Has checkpoints be as they were at the state that the run goes on from."""
        if self.trainer.is_global_zero:
            put_back(self.stage.folder, state)

    @property
    def end(self) -> End | None:
        """How the run ended; None where it was interrupted."""
        return end_of(self.stage.folder)

    def finish(self) -> None:
        """Notes that the run is finished and what it left, and removes its state."""
        end = self.end
        if end is None or not self.trainer.is_global_zero:
            return
        self.stage.finish({"epochs": end.epochs, "steps": end.steps}, list(files_written(self.trainer)))
        forget(*(path for path in self.stage.folder.iterdir() if path.name != DONE))


def files_written(trainer: Trainer) -> dict[Path, str]:
    """Returns the files that callbacks wrote: checkpoints, and whatever else they have a ``path`` for.

    Returns:
        What is known of each file: the value that a best checkpoint was chosen by, else an empty text.
    """
    found: dict[str, str] = {}
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, ModelCheckpoint) and not isinstance(callback, _State):
            score = callback.best_model_score
            chosen = f"{callback.monitor} {float(score):.4g}" if callback.monitor and score is not None else ""
            others = dict.fromkeys((callback.last_model_path, *callback.best_k_models), "")
            found |= {callback.best_model_path: ""} | others | {callback.best_model_path: chosen}
        elif type(callback).__module__.startswith("tlprune."):
            found[getattr(callback, "path", "")] = ""
    return {Path(path): text for path, text in found.items() if path and Path(path).is_file()}


def _keep_version(logger: TensorBoardLogger, note: Path, writes: bool) -> None:
    """Has a resumed run write to the folder of the run that was stopped."""
    known = _noted(note)
    key = str(Path(logger.root_dir).absolute())
    if key in known:
        logger._version = known[key]
    elif writes:
        write_bytes(note, json.dumps(known | {key: logger.version}).encode())


def _keep_run(logger: MLFlowLogger, note: Path) -> None:
    """Has a resumed run log to the run of MLflow that was stopped, unless another is given or it was deleted."""
    if logger._run_id is not None:
        return
    known = _noted(note)
    key = f"{logger._tracking_uri} {logger._experiment_name} {logger._run_name or ''}"
    if key in known and _is_active(logger, known[key]):
        logger._run_id = known[key]
    else:
        write_bytes(note, json.dumps(known | {key: logger.run_id}).encode())


def _is_active(logger: MLFlowLogger, run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return bool(logger._mlflow_client.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException:
        return False


def _noted(note: Path) -> dict[str, Any]:
    try:
        known: dict[str, Any] = json.loads(note.read_text())
    except (OSError, ValueError):
        return {}
    return known


def _what_matters(config: dict[str, Any]) -> dict[str, Any]:
    kept = {name: config.get(name) for name in ("seed_everything", "model", "data", "trainer")}
    trainer, data = dict(kept["trainer"] or {}), dict(kept["data"] or {})
    for name in _CHANGES_NOTHING["trainer"]:
        trainer.pop(name, None)
    if str(data.get("class_path", "")).startswith("tlprune."):
        arguments = {k: v for k, v in (data.get("init_args") or {}).items() if k not in _CHANGES_NOTHING["data"]}
        data["init_args"] = arguments
    trainer["max_time"] = None  # a run that it stops goes on to the end that it would have had without
    own = {name: config[name] for name in ("optimizer", "lr_scheduler") if config.get(name) is not None}
    matters: dict[str, Any] = {**kept, **own, "trainer": trainer, "data": data}
    return matters
