"""Label Mapping's vote, images in memory: against eager PyTorch, and against a bare loop over the same network."""

from tempfile import TemporaryDirectory

import torch
import torchvision
from measuring import Row, interleaved, machine, not_measured, ratios
from torch import Tensor

from tlprune.data.downstream import open_target
from tlprune.data.transforms import EvalView
from tlprune.data.viewed import ViewedImages
from tlprune.selection.ballots import cast_ballots
from tlprune.selection.fixed_batches import BATCH_SIZE
from tlprune.selection.forward import running

IMAGES, SIZE = 2 * BATCH_SIZE, 224


class InMemory:
    """Images that are floats already."""

    def __init__(self) -> None:
        self.pixels = torch.randn(IMAGES, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.pixels[index], 0

    def name(self, index: int) -> str:
        return f"image {index}"


def measure(rounds: int) -> list[Row]:
    """ResNet-18 with 1000 classes at 224 pixels, all cores."""
    torch.manual_seed(0)
    images = InMemory()
    eager = torchvision.models.resnet18().eval()
    surrogate = torchvision.models.resnet18()
    surrogate.load_state_dict(eager.state_dict())
    batches = images.pixels.split(BATCH_SIZE)

    def plain() -> None:
        with torch.no_grad():
            torch.cat([eager(batch).argmax(1) for batch in batches])

    def bare() -> None:
        with running(surrogate) as run:
            torch.cat([run(batch).argmax(1) for batch in batches])

    taken = interleaved({"eager": plain, "bare": bare, "ours": lambda: cast_ballots(surrogate, images, 1000)}, rounds)
    least = 2.3 if {"avx512_bf16", "amx_bf16"} & set(machine()["instructions"]) else 1.3
    facts = {"images a second": IMAGES / min(taken["ours"])}
    path = "LM voting, images in memory"
    return [
        Row(path, "of a bare loop over the same network", 0.95, ratios(taken["bare"], taken["ours"])),
        Row(path, "times eager float32", least, ratios(taken["eager"], taken["ours"]), facts=facts),
        *_in_bfloat16(),
        not_measured(path, "on a GPU, channels_last and AMP", "no GPU here")
        if not torch.cuda.is_available()
        else Row(path, "times eager float32, on a GPU", None, _on_gpu(rounds)),
    ]


def _in_bfloat16() -> list[Row]:
    """Votes of both embedded targets by a trained surrogate, in both precisions."""
    from surrogates import train_surrogate

    with TemporaryDirectory() as folder:
        surrogate, source = train_surrogate(folder, "resnet8_w8", epochs=8)
    alike = []
    for name in ("digits", "photos"):
        voters = ViewedImages(open_target(name).train, EvalView(32))
        units = [
            cast_ballots(surrogate, voters, len(source.classes), precision=precision).units
            for precision in ("float32", "bfloat16")
        ]
        alike.append(float((units[0] == units[1]).float().mean()))
    return [Row("LM votes in bfloat16", "of labels as in float32, digits and photos", 0.99, [min(alike)])]


def _on_gpu(rounds: int) -> list[float]:
    images = InMemory()
    eager, surrogate = (torchvision.models.resnet18().eval().cuda() for _ in range(2))

    def plain() -> None:
        with torch.no_grad():
            torch.cat([eager(batch.cuda()).argmax(1) for batch in images.pixels.split(BATCH_SIZE)]).cpu()

    taken = interleaved({"eager": plain, "ours": lambda: cast_ballots(surrogate, images, 1000)}, rounds)
    return ratios(taken["eager"], taken["ours"])
