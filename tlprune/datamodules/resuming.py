"""A run that goes on from a checkpoint: whether what it trains on next is what the checkpoint's run would have had."""

from dataclasses import replace
from warnings import warn

from lightning.pytorch import Trainer

from tlprune.data.loaders import EpochLayout
from tlprune.errors import InputError

__all__ = ["batches_before", "go_on"]


def go_on(trainer: Trainer, now: EpochLayout, before: EpochLayout | None) -> None:
    """Has the epoch that a checkpoint is from count as what it was: ended, or begun with the very same batches.

    Lightning keeps a number of batches. In a run whose epochs have more of them it would go on with an epoch that was
    ended; in one of other batches it would leave images out.

    Args:
        trainer: Goes on; no batch has been trained on yet.
        now: What epochs are made of from now on.
        before: What they were made of; None where the checkpoint does not say.

    Raises:
        InputError: The checkpoint is from the middle of an epoch of other batches.
    """
    progress, epochs = trainer.fit_loop.epoch_loop.batch_progress.current, trainer.fit_loop.epoch_progress.total
    known = before or replace(now, batches=batches_before(trainer), content="")
    done, ended = progress.ready, epochs.processed >= epochs.ready  # type: ignore[attr-defined]
    if done == 0:
        return
    if ended or done >= known.batches:
        if before is not None and done < before.batches:
            left_out = f"{before.batches - done} of {before.batches} batches of it are never trained on"
            warn(f"the checkpoint is from an epoch that was cut short: {left_out}", stacklevel=2)
        for name in ("ready", "started", "processed", "completed"):
            setattr(progress, name, getattr(progress, name) + now.batches - done)
        return
    changes = now.changes(known)
    if not changes and before is None and known.batches != now.batches:
        changes = [f"an epoch had {known.batches} batches, has {now.batches}"]
    if changes:
        raise InputError(
            f"the checkpoint is from the middle of an epoch, after {done} of {known.batches} batches, and its rest "
            f"would be another: {'; '.join(changes)}. Go on as it was, or from a checkpoint at an epoch's end"
        )


def batches_before(trainer: Trainer) -> int:
    """Batches of an epoch of the run that wrote a checkpoint, told by those of the epochs before the present one.

    Args:
        trainer: Goes on from the checkpoint. In its first epoch there are no others, and its own number is taken.
    """
    progress, whole = trainer.fit_loop.epoch_loop.batch_progress, trainer.fit_loop.epoch_progress.total.ready - 1
    found = (progress.total.ready - progress.current.ready) // whole if whole > 0 else 0
    return found or int(trainer.num_training_batches)
