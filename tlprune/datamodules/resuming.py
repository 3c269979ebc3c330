"""Resumes runs from a checkpoint with the batches that the original run would have trained on next."""

from dataclasses import replace
from warnings import warn

from lightning.pytorch import Trainer

from tlprune.data.loaders import EpochLayout
from tlprune.errors import InputError

__all__ = ["batches_before", "go_on"]


def go_on(trainer: Trainer, now: EpochLayout, before: EpochLayout | None) -> None:
    """Treats the epoch of a checkpoint as finished or as partly trained with the same batches, as it was.

    Lightning stores only a number of batches. If epochs now have more batches, it would continue an epoch that was
    finished; if batches differ, it would skip images.

    Args:
        trainer: Trainer of the resumed run, before its first batch.
        now: Composition of epochs from now on.
        before: Composition of epochs in the original run; None if it is not in the checkpoint.

    Raises:
        InputError: The checkpoint is from the middle of an epoch with other batches.
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
            f"would have other batches: {'; '.join(changes)}. Restore the settings, or resume from an epoch's end"
        )


def batches_before(trainer: Trainer) -> int:
    """Computes the batches per epoch of the run that wrote a checkpoint from its finished epochs.

    Args:
        trainer: Trainer of the resumed run. In the first epoch, its own number of batches is used.
    """
    progress, whole = trainer.fit_loop.epoch_loop.batch_progress, trainer.fit_loop.epoch_progress.total.ready - 1
    batches = (progress.total.ready - progress.current.ready) // whole if whole > 0 else 0
    return batches or int(trainer.num_training_batches)
