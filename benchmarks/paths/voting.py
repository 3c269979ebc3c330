"""Label Mapping's vote, images in memory: against eager PyTorch, and against a bare loop over the same network."""

from collections.abc import Callable
from tempfile import TemporaryDirectory

import torch
import torchvision
from measuring import Row, interleaved, machine, not_measured, ratios
from torch import Tensor

from tlprune.data.datasets import TensorImages
from tlprune.data.target_splits import open_target
from tlprune.data.transformed import TransformedDataset
from tlprune.data.transforms import EvalTransform
from tlprune.selection.fixed_batches import BATCH_SIZE
from tlprune.selection.forward import running
from tlprune.selection.votes import cast_votes

IMAGES, SIZE = 2 * BATCH_SIZE, 224


def in_memory() -> TransformedDataset:
    """Noise of the size that the network sees."""
    pixels = torch.randint(0, 256, (IMAGES, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(IMAGES, dtype=torch.int64)
    return TransformedDataset(TensorImages(pixels.to(torch.uint8), labels, ("noise",)), EvalTransform(SIZE))


def floats(images: TransformedDataset) -> tuple[Tensor, ...]:
    """All batches, made beforehand."""
    return images.__getitems__(range(IMAGES))[0].split(BATCH_SIZE)


def measure(rounds: int) -> list[Row]:
    """ResNet-18 with 1000 classes at 224 pixels, all cores."""
    torch.manual_seed(0)
    images = in_memory()
    eager = torchvision.models.resnet18().eval()
    surrogate = torchvision.models.resnet18()
    surrogate.load_state_dict(eager.state_dict())
    batches = floats(images)

    def plain() -> None:
        with torch.no_grad():
            torch.cat([eager(batch).argmax(1) for batch in batches])

    def bare() -> None:
        with running(surrogate) as run:
            torch.cat([run(batch).argmax(1) for batch in batches])

    def in_bfloat16() -> None:
        cast_votes(surrogate, images, 1000, precision="bfloat16")

    fast = bool({"avx512_bf16", "amx_bf16"} & set(machine()["instructions"]))
    ways: dict[str, Callable[[], object]] = {"eager": plain, "bare": bare}
    ways |= {"ours": lambda: cast_votes(surrogate, images, 1000)} | ({"bfloat16": in_bfloat16} if fast else {})
    taken = interleaved(ways, rounds)
    facts = {"images a second": IMAGES / min(taken["ours"])}
    path, half = "LM voting, images in memory", "times eager float32, in bfloat16"
    return [
        Row(path, "of a bare loop over the same network", 0.95, ratios(taken["bare"], taken["ours"])),
        Row(path, "times eager float32", 1.3, ratios(taken["eager"], taken["ours"]), facts=facts),
        Row(path, half, 2.3, ratios(taken["eager"], taken["bfloat16"]))
        if fast
        else not_measured(path, half, "this processor does not compute it"),
        *_labels_in_bfloat16(),
        not_measured(path, "on a GPU, channels_last and AMP", "no GPU here")
        if not torch.cuda.is_available()
        else Row(path, "times eager float32, on a GPU", None, _on_gpu(rounds)),
    ]


def _labels_in_bfloat16() -> list[Row]:
    """Votes of both built-in targets by a trained surrogate, in both precisions."""
    from surrogates import train_surrogate

    with TemporaryDirectory() as folder:
        surrogate, source = train_surrogate(folder, "resnet8_w8", epochs=8)
    alike = []
    for name in ("digits", "photos"):
        voters = TransformedDataset(open_target(name).train, EvalTransform(32))
        units = [
            cast_votes(surrogate, voters, len(source.classes), precision=precision).units
            for precision in ("float32", "bfloat16")
        ]
        alike.append(float((units[0] == units[1]).float().mean()))
    what = "of labels as in float32, digits and photos; at least 0.99 would make it the default where it is fast"
    return [Row("LM votes in bfloat16", what, None, [min(alike)])]


def _on_gpu(rounds: int) -> list[float]:
    images = in_memory()
    batches = floats(images)
    eager, surrogate = (torchvision.models.resnet18().eval().cuda() for _ in range(2))

    def plain() -> None:
        with torch.no_grad():
            torch.cat([eager(batch.cuda()).argmax(1) for batch in batches]).cpu()

    taken = interleaved({"eager": plain, "ours": lambda: cast_votes(surrogate, images, 1000)}, rounds)
    return ratios(taken["eager"], taken["ours"])
