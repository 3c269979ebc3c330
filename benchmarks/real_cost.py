"""What the pipeline of configs/experiment/real_cost.yaml saves, measured by turns.

    python benchmarks/real_cost.py --source /data/tinyimagenet --target /data/targets/cifar10

Segments of training of the source model (configs/source/real_large.yaml) and of the surrogate
(real_surrogate_small.yaml) alternate, so that other work on the machine counts for both alike. The medians of their
seconds per step, by the steps of each training, are T and S. L is the median of five selections.
"""

import argparse
import json
import logging
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from measuring import machine, versions

import tlprune
from tlprune import LabelMapping, LitClassifier, PrunedSourceDataModule
from tlprune.models.weights import save_classifier

SOURCE_MODEL, SURROGATE = ("resnet8_w32", 12), ("resnet8_w8", 2)
"""Network and epochs, as the configs have them."""

RATIOS = (0.2, 0.4, 0.6, 0.8)
OUTPUT = Path(__file__).parent / "results" / "real_cost.json"


class Clock(Callback):
    """Counts the seconds of all but the first steps."""

    def __init__(self, warm: int = 10, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.warm, self.begin, self.seconds, self.steps = warm, 0.0, 0.0, 0

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Starts and reads the clock."""
        self.steps = trainer.global_step - self.warm
        if self.steps == 0:
            self.begin = self.clock()
        self.seconds = self.clock() - self.begin

    @property
    def each(self) -> float:
        """Seconds of a step."""
        return self.seconds / self.steps


def segment(data: PrunedSourceDataModule, backbone: str, steps: int) -> float:
    """Trains for a few steps and returns the seconds of one."""
    clock = Clock()
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = Trainer(
        max_steps=steps,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        callbacks=[clock],
        enable_model_summary=False,
        **options,
    )
    trainer.fit(LitClassifier(backbone, num_classes=data.num_classes), datamodule=data)
    return clock.each


def measure(source: str, target: str, rounds: int, steps: int) -> dict[str, Any]:
    """Measures S, L and T, and derives what is saved."""
    data = PrunedSourceDataModule(source, image_size=32, augment="shift", val_share=0, in_memory=True, batch_size=128)
    each: dict[str, list[float]] = {SOURCE_MODEL[0]: [], SURROGATE[0]: []}
    segment(data, SURROGATE[0], 20)  # decodes the source
    for _ in range(rounds):
        for backbone, found in each.items():
            found.append(segment(data, backbone, steps))
            print(f"{backbone}: {1000 * found[-1]:.2f} ms a step", flush=True)
    per_epoch = len(data.train_dataloader())
    whole, surrogate = (median(each[name]) * epochs * per_epoch for name, epochs in (SOURCE_MODEL, SURROGATE))
    selection = _selection(source, target, data)
    overhead = (surrogate + selection) / whole
    return {
        "seconds": {"S": surrogate, "L": selection, "T": whole},
        "milliseconds_a_step": {name: [round(1000 * one, 3) for one in found] for name, found in each.items()},
        "steps_an_epoch": per_epoch,
        "(S + L) / T": overhead,
        "saving": {str(ratio): ratio - overhead for ratio in RATIOS},
        "saving_surrogate_at_hand": {str(ratio): ratio - selection / whole for ratio in RATIOS},
        "machine": machine(),
        "versions": versions(),
    }


def _selection(source: str, target: str, data: PrunedSourceDataModule) -> float:
    """Median seconds of a vote, its cache removed before each."""
    model = LitClassifier(SURROGATE[0], num_classes=data.num_classes)
    with TemporaryDirectory() as folder:
        weights = Path(folder) / "surrogate.safetensors"
        save_classifier(weights, SURROGATE[0], model.backbone, model.head, data.source_images.classes)
        found = []
        for _ in range(5):
            begin = time.perf_counter()
            tlprune.select(source, target, surrogate=weights, selector=LabelMapping(), image_size=32, fresh=True)
            found.append(time.perf_counter() - begin)
    return median(found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="/data/tinyimagenet")
    parser.add_argument("--target", default="/data/targets/cifar10")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    result = measure(arguments.source, arguments.target, arguments.rounds, arguments.steps)
    print(json.dumps(result, indent=1))
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
