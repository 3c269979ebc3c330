"""A run of ``fit`` that stops before its planned end: how that is told, and the state that the next command needs.

A run has reached its planned end with ``max_epochs`` or ``max_steps``, or when EarlyStopping's criterion is met.
Everything else that sets ``trainer.should_stop`` (``max_time``, a Timer, the user's own code) cuts a run short.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping, ModelCheckpoint, Timer
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason

from tlprune.storage.atomic import atomic_path, write_bytes
from tlprune.storage.cache import forget

__all__ = [
    "STOPPED",
    "End",
    "RestartClock",
    "WatchEnd",
    "cut_short",
    "end_of",
    "put_back",
    "steps_are_pending",
]

STOPPED = "stopped.ckpt"
"""Name of the state that is written in the middle of an epoch."""

_END, _COPIES, _FILES = "end.json", "copies", "files.json"


@dataclass(frozen=True)
class End:
    """How a run of ``fit`` ended.

    Args:
        stopped: Why it did not reach its planned end; None where it did.
        epochs: Passes over the data.
        steps: Of the optimiser.
    """

    stopped: str | None
    epochs: int
    steps: int


def _why_stopped(trainer: Trainer) -> str | None:
    """Why a run whose loop has ended did not reach its planned end; None where it did."""
    loop = trainer.fit_loop
    nothing_to_train_on = loop.max_batches == 0 or trainer.limit_train_batches == 0
    if nothing_to_train_on or (trainer.should_stop and _criterion_met(trainer)):
        return None
    if 0 <= trainer.max_steps <= trainer.global_step:
        return None
    # the loop counts an epoch that was cut short too
    if not cut_short(trainer) and 0 <= (loop.max_epochs or 0) <= trainer.current_epoch:
        return None
    if any((left := timer.time_remaining()) is not None and left <= 0 for timer in _timers(trainer)):
        return "its time is up"
    return "it was asked to stop" if trainer.should_stop else "it left its loop"


def cut_short(trainer: Trainer) -> bool:
    """Whether the present epoch ends before its last batch, by ``should_stop``.

    Args:
        trainer: In ``fit``, or after it.
    """
    loop = trainer.fit_loop
    batches = loop.epoch_loop.batch_progress
    complete = batches.is_last_batch or batches.current.ready >= trainer.num_training_batches
    return trainer.should_stop and loop._can_stop_early and not complete


def steps_are_pending(trainer: Trainer) -> bool:
    """Whether gradients of the last batches wait for the optimiser, which no checkpoint holds.

    Args:
        trainer: In ``on_train_batch_end``.
    """
    batches = trainer.fit_loop.epoch_loop.batch_progress
    return not batches.is_last_batch and batches.current.ready % trainer.accumulate_grad_batches != 0


class RestartClock(Callback):
    """Gives each command all of ``max_time``, and an EarlyStopping that has stopped the run its last word.

    A Timer restores the time of earlier commands from the checkpoint, so a run that goes on would stop at once. Timers
    without a limit keep on adding up.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forgets what stopped an earlier run of the same Trainer."""
        for callback in _early_stoppings(trainer):
            callback.stopping_reason = EarlyStoppingReason.NOT_STOPPED
            callback.stopped_epoch = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Runs before the Timer's own hook, which stops a run whose time is up."""
        for timer in _timers(trainer):
            if timer.time_remaining() is not None:
                timer.load_state_dict({})
        trainer.should_stop = trainer.should_stop or _criterion_met(trainer)


class WatchEnd(Checkpoint):
    """Notes how a run ends; where it is cut short, writes its state and copies of the checkpoints of that moment.

    The state is that of the step after which the run is cut short: what follows (a validation, the end of an epoch that
    has not ended) is not part of the planned run. A stop between two steps of the optimiser waits for the next one. As
    a ``Checkpoint`` it comes after all other callbacks.

    Args:
        folder: Of the run's stage.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._waits = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Removes the note of an earlier command."""
        if trainer.is_global_zero:
            forget(self.folder / _END)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Writes state and copies, if this was the last step."""
        trainer.should_stop = trainer.should_stop or self._waits
        self._waits = False
        if not cut_short(trainer) or _criterion_met(trainer):
            return
        if steps_are_pending(trainer):
            self._waits, trainer.should_stop = True, False
            return
        trainer.save_checkpoint(self.folder / "state" / STOPPED)
        if trainer.is_global_zero:
            _copy(_written(trainer), self.folder / _COPIES)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes the end in a file: a Trainer that starts its processes itself knows nothing of it afterwards."""
        if not trainer.is_global_zero:
            return
        end = {"stopped": _why_stopped(trainer), "epochs": trainer.current_epoch, "steps": trainer.global_step}
        write_bytes(self.folder / _END, json.dumps(end).encode())
        note = self.folder / _COPIES / _FILES
        if note.is_file():
            noted = json.loads(note.read_text())
            noted["added"] = [str(path) for path in _written(trainer) if str(path) not in noted["copied"]]
            write_bytes(note, json.dumps(noted).encode())


def end_of(folder: Path) -> End | None:
    """How the last command of a run ended; None where it was killed or interrupted.

    Args:
        folder: Of the run's stage.
    """
    note = folder / _END
    return End(**json.loads(note.read_text())) if note.is_file() else None


def put_back(folder: Path, state: Path) -> None:
    """Has checkpoints be again as they were at a state that :class:`WatchEnd` wrote; the copies are removed.

    Args:
        folder: Of the run's stage.
        state: The state that the run goes on from; of another one there are no copies.
    """
    copies = folder / _COPIES
    note = copies / _FILES
    if state.name == STOPPED and note.is_file():
        noted = json.loads(note.read_text())
        for path, copy in noted["copied"].items():
            with atomic_path(Path(path)) as temporary:
                shutil.copyfile(copies / copy, temporary)
        for path in noted["added"]:
            Path(path).unlink(missing_ok=True)
    forget(copies)


def _copy(files: list[Path], folder: Path) -> None:
    forget(folder)
    folder.mkdir(parents=True)
    copied = {str(path): f"{number}{path.suffix}" for number, path in enumerate(files)}
    for path, copy in copied.items():
        shutil.copyfile(path, folder / copy)
    write_bytes(folder / _FILES, json.dumps({"copied": copied, "added": []}).encode())


def _written(trainer: Trainer) -> list[Path]:
    """Checkpoints that callbacks have on disk, the run's own state left out: it is no ModelCheckpoint of the user's."""
    paths: list[str] = []
    for callback in trainer.checkpoint_callbacks:
        if type(callback).__module__.startswith("tlprune.") or not isinstance(callback, ModelCheckpoint):
            continue
        paths += [callback.best_model_path, callback.last_model_path, *callback.best_k_models]
    return [path for path in dict.fromkeys(Path(one).absolute() for one in paths if one) if path.is_file()]


def _criterion_met(trainer: Trainer) -> bool:
    none = EarlyStoppingReason.NOT_STOPPED  # on other ranks than the one that stopped the run only the epoch is noted
    return any(one.stopping_reason != none or one.stopped_epoch > 0 for one in _early_stoppings(trainer))


def _early_stoppings(trainer: Trainer) -> list[EarlyStopping]:
    return [one for one in trainer.callbacks if isinstance(one, EarlyStopping)]  # type: ignore[attr-defined]


def _timers(trainer: Trainer) -> list[Timer]:
    return [one for one in trainer.callbacks if isinstance(one, Timer)]  # type: ignore[attr-defined]
