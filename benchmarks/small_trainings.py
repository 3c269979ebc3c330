"""Small trainings on one device: by hand, as a sweep's cell trains, and as CUDA graphs on streams.

python benchmarks/small_trainings.py KIND SECONDS < /dev/null
"""

import json
import logging
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

sys.path.insert(0, str(Path(__file__).parents[1]))

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SIDE, BATCH, SECONDS = 32, 128, 3.0


def wait() -> None:
    """Waits until the device has done what it was given."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def at_once(kind: str, count: int, seconds_each: float) -> tuple[float, float]:
    """Images a second of processes that train at once, and the least share of that time in which one trained."""
    arguments = [sys.executable, __file__, kind, str(seconds_each)]
    started = [
        subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    for one in started:
        if one.stdout is None or one.stdout.readline().strip() != "ready":
            raise RuntimeError(one.communicate()[1].strip().splitlines()[-1][:300])
    for one in started:
        one.stdin.write("go\n")  # type: ignore[union-attr]
        one.stdin.flush()  # type: ignore[union-attr]
    said = [json.loads(one.communicate()[0].splitlines()[-1]) for one in started]
    whole = max(end for _, _, end in said) - min(begin for _, begin, _ in said)
    return sum(images for images, _, _ in said) / whole, min(end - begin for _, begin, end in said) / whole


def pixels_of_cell() -> tuple[Tensor, Tensor]:
    """Noise in place of the images of a small source: ``[N, 3, 32, 32]`` uint8, and labels."""
    pixels = torch.randint(0, 256, (10_000, 3, SIDE, SIDE), dtype=torch.uint8)
    return pixels, torch.arange(len(pixels)) % 100


def ready(seconds_each: float) -> float:
    """Says that a process is warm, waits for the others, and returns when it has to end."""
    wait()
    print("ready", flush=True)
    sys.stdin.readline()
    return time.time() + seconds_each


def bare_cell(seconds_each: float) -> None:
    """A loop without tlprune, all images and their augmentation on the device."""
    step = bare_step()
    for _ in range(20):
        step()
    end, done, begin = ready(seconds_each), 0, time.time()
    while time.time() < end:
        for _ in range(10):
            step()
        wait()
        done += 10 * BATCH
    print(json.dumps([done, begin, time.time()]))


def bare_step() -> Callable[[], None]:
    """A training step of ResNet-8 of 16 channels, float32."""
    from tlprune.models.backbones import Classifier, create_backbone

    made = Classifier(create_backbone("resnet8_w16"), 100).to(DEVICE)
    pixels, labels = (one.to(DEVICE) for one in pixels_of_cell())
    optimizer = torch.optim.SGD(made.parameters(), 0.1, 0.9, weight_decay=5e-4, nesterov=True)
    reach = SIDE // 8

    def step() -> None:
        rows = torch.randint(0, len(pixels), (BATCH,), device=DEVICE)
        moves = torch.randint(-reach, reach + 1, (BATCH, 2), device=DEVICE)
        across = (moves[:, :, None] + torch.arange(SIDE, device=DEVICE)).clamp(0, SIDE - 1)
        places = (across[:, 0, :, None] * SIDE + across[:, 1, None, :]).view(BATCH, 1, -1).expand(-1, 3, -1)
        images = pixels[rows].flatten(2).gather(2, places).view(-1, 3, SIDE, SIDE).float().sub(120).div(60)
        loss = cross_entropy(made(images), labels[rows])
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        optimizer.step()

    return step


def graphs(count: int, seconds_each: float) -> float:
    """Images a second of trainings whose step is a CUDA graph, each on a stream of its own."""
    captured, kept = [], []
    for _ in range(count):
        step, stream = bare_step(), torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(5):
                step()
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            step()
        captured.append((graph, stream))
        kept.append(step)  # a graph reads the weights and images of its step, and does not keep them
    wait()
    done, begin = 0, time.time()
    while time.time() < begin + seconds_each:
        for _ in range(20):
            for graph, stream in captured:
                with torch.cuda.stream(stream):
                    graph.replay()
        wait()
        done += 20 * count * BATCH
    return done / (time.time() - begin)


def our_cell(seconds_each: float, held: bool, graphs: bool = False) -> None:
    """As a cell of a sweep trains: tlprune's DataModule and module under Lightning's Trainer."""
    from functools import partial

    from lightning.pytorch import Callback, Trainer
    from torch.optim import SGD

    from tlprune import CompileBackbone, LitClassifier, PrunedSourceDataModule
    from tlprune.data.datasets import TensorImages

    class Clock(Callback):
        def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
            if trainer.current_epoch == 1:
                self.end, self.begin, self.first = ready(seconds_each), time.time(), trainer.global_step

        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            if trainer.current_epoch > 0 and trainer.global_step % 10 == 0 and time.time() > self.end:
                trainer.should_stop = True
                wait()
                images = (trainer.global_step - self.first) * BATCH
                print(json.dumps([images, self.begin, time.time()]))

    pixels, labels = pixels_of_cell()
    source = TensorImages(pixels, labels, [str(one) for one in range(100)])
    data = PrunedSourceDataModule(source, augment="shift", batch_size=BATCH, val_share=0, in_memory=held)
    trainer = Trainer(
        accelerator="gpu" if DEVICE.type == "cuda" else "cpu",
        devices=1,
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        callbacks=[Clock(), *([CompileBackbone("graphs")] if graphs else [])],
    )
    optimizer = partial(SGD, lr=0.2, momentum=0.9, weight_decay=5e-4, nesterov=True)
    trainer.fit(LitClassifier("resnet8_w16", optimizer=optimizer), datamodule=data)


HELD = "tlprune, images held on the device"
GRAPHS = "tlprune, held, CompileBackbone(mode=graphs)"
KINDS: dict[str, Callable[[float], None]] = {
    GRAPHS: lambda seconds_each: our_cell(seconds_each, held=True, graphs=True),
    HELD: lambda seconds_each: our_cell(seconds_each, held=True),
    "a loop by hand": bare_cell,
    "tlprune, images sent": lambda seconds_each: our_cell(seconds_each, held=False),
}
"""Ways to train a small network, by name."""


if __name__ == "__main__":
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    KINDS[sys.argv[1]](float(sys.argv[2]))
