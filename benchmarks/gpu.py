"""Every figure that needs a GPU, on one card in at most eight minutes; each row is printed as it ends.

    python benchmarks/gpu.py --output benchmarks/results/gpu.json [--minutes 8] [--only votes cells] [--small]

Needs torch, torchvision, lightning and timm; a row that needs more says which package is missing and the next one is
measured. Each part is a process, which is ended when the time is over. ``--small`` takes a minute on a processor: it
shows that everything runs, and its figures mean nothing.
"""

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from measuring import Row, machine, not_measured
from small_trainings import DEVICE, KINDS, SECONDS, at_once, graphs, wait
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

sys.path.insert(0, str(Path(__file__).parents[1]))


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Args:
        side: Height and width of images in pixels.
        images: Images that vote.
        batch: Images in a training batch.
        steps: Training steps of a run.
        rows: Features of a source.
        voters: Features of a target.
        clusters: Centroids.
        files: JPEG files to load.
        cells: Numbers of small trainings at once: of processes the first and the last, of CUDA graphs all.
        compiled: Whether networks are compiled at all.
    """

    side: int = 224
    images: int = 4096
    batch: int = 128
    steps: int = 20
    rows: int = 1_280_000
    voters: int = 50_000
    clusters: int = 1000
    files: int = 2048
    cells: tuple[int, ...] = (1, 4, 12)
    compiled: bool = True


SMALL = Sizes(32, 64, 8, 2, 2000, 100, 10, 16, (1, 2), compiled=False)


def seconds(work: Callable[[], object], repeats: int = 3) -> list[float]:
    """Seconds of each run, after one that does not count; waits for the device."""
    taken = []
    for _ in range(repeats + 1):
        wait()
        begin = time.perf_counter()
        work()
        wait()
        taken.append(time.perf_counter() - begin)
    return taken[1:]


def rates(count: int, taken: list[float]) -> list[float]:
    """A count over seconds."""
    return [count / one for one in taken]


def half() -> AbstractContextManager[Any]:
    """Bfloat16 where autocast allows it."""
    return torch.autocast(DEVICE.type, torch.bfloat16)


def network(name: str) -> nn.Module:
    """A network with a head of a thousand classes and random weights, in eval mode on the device."""
    torch.manual_seed(0)
    if name == "tf_efficientnet_lite0":
        import timm

        made = timm.create_model(name, pretrained=False)
    else:
        import torchvision

        made = getattr(torchvision.models, name)()
    return made.eval().to(DEVICE)


def votes(sizes: Sizes) -> Iterator[Row]:
    """Forward passes of three surrogates over images on the device, and whole votes of images in memory."""
    from tlprune.selection.fixed_batches import BATCH_SIZE
    from tlprune.selection.forward import running

    names = ("resnet18", "tf_efficientnet_lite0", "vit_b_16")
    for name in names[: 1 if sizes == SMALL else None]:
        path = _forward(name, sizes)
        plain = network(name)
        images = torch.rand(sizes.images // 4, 3, sizes.side, sizes.side, device=DEVICE)
        last = images.contiguous(memory_format=torch.channels_last)

        yield Row(path, "images a second, eager float32, batches of 64", None, voted(plain, images, BATCH_SIZE))
        for precision in ("float32", "bfloat16"):
            with running(plain, precision) as ours:  # type: ignore[arg-type]
                what = f"images a second, as tlprune runs it, {precision}, batches of 64"
                yield Row(path, what, None, voted(ours, images, BATCH_SIZE))
        plain.to(memory_format=torch.channels_last)
        with half():
            what = "images a second, AMP, channels_last, batches of 256"
            yield Row(path, what, None, voted(plain, last, 256))
    yield from whole_votes(sizes)


def _forward(name: str, sizes: Sizes) -> str:
    return f"forward, {name}, {sizes.side} px"


def voted(step: Callable[[Tensor], Tensor], pixels: Tensor, size: int) -> list[float]:
    """Images a second of forward passes over images on the device."""
    with torch.inference_mode():
        return rates(len(pixels), seconds(lambda: [step(one).argmax(1) for one in pixels.split(size)]))


def whole_votes(sizes: Sizes) -> Iterator[Row]:
    """Label Mapping's votes of uint8 images in the machine's memory, with normalising and copying."""
    from tlprune.data.datasets import TensorImages
    from tlprune.data.transformed import TransformedDataset
    from tlprune.data.transforms import EvalTransform
    from tlprune.selection.votes import cast_votes

    pixels = torch.randint(0, 256, (sizes.images // 2, 3, sizes.side, sizes.side), dtype=torch.uint8)
    images = TensorImages(pixels, torch.zeros(len(pixels), dtype=torch.int64), ("noise",))
    view = TransformedDataset(images, EvalTransform(sizes.side))
    surrogate = network("resnet18")
    for precision in ("float32", "bfloat16"):
        taken = seconds(lambda how=precision: cast_votes(surrogate, view, 1000, precision=how), 2)  # type: ignore[misc]
        yield Row(f"votes, resnet18, {sizes.side} px", f"images a second, {precision}", None, rates(len(view), taken))


def features(sizes: Sizes) -> Iterator[Row]:
    """Searches over features: on the device by matrix products, and as tlprune computes them on the processor."""
    from tlprune.selection.centroids import nearest

    generator = torch.Generator(DEVICE).manual_seed(0)
    rows = torch.randn(sizes.rows, 512, generator=generator, device=DEVICE, dtype=torch.float16)
    centroids = torch.randn(sizes.clusters, 512, generator=generator, device=DEVICE)
    lengths = centroids.square().sum(1)

    def assign() -> Tensor:
        return torch.cat(
            [torch.addmm(lengths, one.float(), centroids.T, alpha=-2).argmin(1) for one in rows.split(2**16)]
        )

    def lloyd() -> None:
        sample, means = rows[: 256 * sizes.clusters].float(), centroids.clone()
        for _ in range(20):
            parts = [
                torch.addmm(means.square().sum(1), one, means.T, alpha=-2).argmin(1) for one in sample.split(2**16)
            ]
            units = torch.cat(parts)
            sums = torch.zeros_like(means).index_add_(0, units, sample)
            means = sums / units.bincount(minlength=len(means)).clamp(min=1)[:, None]

    def neighbours() -> None:
        anchors = normalize(centroids[:100])
        best = [(anchors @ normalize(one.float()).T) for one in rows.split(2**17)]
        torch.cat(best, 1).topk(min(sizes.rows // len(anchors), sizes.rows), dim=1)

    size = f"{sizes.rows:,} x 512"
    found = assign()
    yield Row(f"assignment, {size}", f"seconds, {sizes.clusters} centroids, on {DEVICE}", None, seconds(assign))
    yield Row("k-means", f"seconds, 20 rounds, {sizes.clusters} centroids, on {DEVICE}", None, seconds(lloyd))
    yield Row(
        f"nearest images, {size}", f"seconds, product with 100 anchors and top, on {DEVICE}", None, seconds(neighbours)
    )
    part = rows[:100_000].float().cpu()
    begin = time.perf_counter()
    ours = nearest(part, centroids.cpu())
    taken = time.perf_counter() - begin
    alike = float((ours == found[: len(part)].cpu()).float().mean())
    what = f"seconds, {sizes.clusters} centroids, as tlprune computes it, on the processor"
    facts = {"labels as on the device": alike, "threads": torch.get_num_threads()}
    yield Row(f"assignment, {len(part):,} x 512", what, None, [taken], facts=facts)
    yield from selections(sizes, rows.float().cpu().numpy(), centroids.cpu())


def selections(sizes: Sizes, rows: Any, centroids: Tensor) -> Iterator[Row]:
    """Whole Selections from features, on the processor."""
    import tlprune

    source = tlprune.FeatureSet(rows, where="drawn")
    target = tlprune.FeatureSet(centroids.repeat(max(1, sizes.voters // sizes.clusters), 1).numpy(), where="target")
    for selector in (
        tlprune.NearestImages(num_anchors=min(100, sizes.clusters)),
        tlprune.FeatureMapping(num_clusters=sizes.clusters),
    ):
        with TemporaryDirectory() as cache:
            begin = time.perf_counter()
            tlprune.select(source, target, selector=selector, cache=cache)
            taken = time.perf_counter() - begin
        yield Row(
            f"select, {type(selector).__name__}", f"seconds, {len(rows):,} x 512, on the processor", None, [taken]
        )


def loader(sizes: Sizes) -> Iterator[Row]:
    """JPEG files of 500 x 375 to batches on the device: torchvision's ImageFolder, and tlprune's DataModule."""
    import torchvision
    from torch.utils.data import DataLoader
    from torchvision.transforms import v2

    workers = max(1, min(16, (os.cpu_count() or 1) - 1))
    with TemporaryDirectory() as folder:
        for index in range(sizes.files):
            place = Path(folder) / f"class_{index % 4}"
            place.mkdir(exist_ok=True)
            coarse = torch.randint(0, 256, (1, 3, 24, 32), generator=torch.Generator().manual_seed(index)).float()
            smooth = nn.functional.interpolate(coarse, (375, 500), mode="bicubic").clamp(0, 255)[0].byte()
            torchvision.io.write_jpeg(smooth, str(place / f"{index:05}.jpg"), quality=90)
        view = [v2.RandomResizedCrop(sizes.side), v2.RandomHorizontalFlip(), v2.PILToTensor()]
        view += [v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
        theirs = torchvision.datasets.ImageFolder(folder, v2.Compose(view))
        options: dict[str, Any] = {"batch_size": sizes.batch, "num_workers": workers, "persistent_workers": True}
        pinned = DEVICE.type == "cuda"
        peer = DataLoader(theirs, shuffle=True, pin_memory=pinned, **options)

        def drain(batches: Any) -> None:
            for images, labels in batches:
                images.to(DEVICE, non_blocking=True), labels.to(DEVICE, non_blocking=True)

        path, what = f"loader to {DEVICE.type}, {workers} processes", "images a second"
        yield Row(path, f"{what}, torchvision's ImageFolder", None, rates(sizes.files, seconds(lambda: drain(peer), 2)))
        from tlprune import PrunedSourceDataModule

        data = PrunedSourceDataModule(
            folder, augment="crop_flip", batch_size=sizes.batch, num_workers=workers, val_share=0, image_size=sizes.side
        )
        data.setup("fit")
        ours = data.train_dataloader()
        yield Row(path, f"{what}, tlprune, floats", None, rates(sizes.files, seconds(lambda: drain(ours), 2)))


def training(sizes: Sizes) -> Iterator[Row]:
    """A step of ResNet-50 on images on the device, bare and under Lightning's Trainer."""
    images, labels = training_batch(sizes)
    path, what = f"training step, resnet50, {sizes.side} px", "images a second"
    yield Row(path, f"{what}, float32, channels_last", None, trained(sizes, amp=False, compiled=False))
    yield Row(path, f"{what}, AMP, channels_last", None, trained(sizes, amp=True, compiled=False))
    yield Row(path, f"{what}, LitClassifier under Trainer, AMP", None, under_trainer(sizes, images, labels))


def compiled(sizes: Sizes) -> Iterator[Row]:
    """The same networks compiled, which takes most of a minute each."""
    if not sizes.compiled:
        yield Row("compiled", "nothing at this size", None, [1.0])
        return
    path = f"training step, resnet50, {sizes.side} px"
    what = "images a second, AMP, channels_last, compiled"
    yield Row(path, what, None, trained(sizes, amp=True, compiled=True))
    for name in ("resnet18", "tf_efficientnet_lite0", "vit_b_16"):
        images = torch.rand(sizes.images // 4, 3, sizes.side, sizes.side, device=DEVICE)
        plain = network(name).to(memory_format=torch.channels_last)
        with half():
            taken = voted(torch.compile(plain), images.contiguous(memory_format=torch.channels_last), 256)
        yield Row(_forward(name, sizes), "images a second, compiled, AMP, channels_last, batches of 256", None, taken)


def training_batch(sizes: Sizes) -> tuple[Tensor, Tensor]:
    """Images on the device, channels last, and labels of a thousand classes."""
    images = torch.rand(sizes.batch, 3, sizes.side, sizes.side, device=DEVICE)
    labels = torch.randint(0, 1000, (sizes.batch,), device=DEVICE)
    return images.contiguous(memory_format=torch.channels_last), labels


def trained(sizes: Sizes, amp: bool, compiled: bool) -> list[float]:
    """Images a second of training steps by hand."""
    import torchvision

    images, labels = training_batch(sizes)
    made: Any = torchvision.models.resnet50().to(DEVICE, memory_format=torch.channels_last)
    step = torch.compile(made) if compiled else made
    optimizer = torch.optim.SGD(made.parameters(), 0.1, 0.9)

    def run() -> None:
        for _ in range(sizes.steps):
            with half() if amp else nullcontext():
                loss = cross_entropy(step(images), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return rates(sizes.steps * sizes.batch, seconds(run, 2))


def under_trainer(sizes: Sizes, images: Tensor, labels: Tensor) -> list[float]:
    """The same steps by ``LitClassifier`` and Lightning's Trainer; the first epoch does not count."""
    from lightning.pytorch import Callback, Trainer
    from torch.optim import SGD
    from torch.utils.data import DataLoader

    from tlprune import LitClassifier

    class Clock(Callback):
        def __init__(self) -> None:
            self.taken: list[float] = []

        def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
            wait()
            self.begin = time.perf_counter()

        def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
            wait()
            self.taken.append(time.perf_counter() - self.begin)

    clock = Clock()
    trainer = Trainer(
        accelerator="gpu" if DEVICE.type == "cuda" else "cpu",
        devices=1,
        precision="bf16-mixed",
        max_epochs=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[clock],
    )
    module = LitClassifier("resnet50", 1000, optimizer=lambda parameters: SGD(parameters, 0.1, 0.9))
    module.to(memory_format=torch.channels_last)
    batches: Any = [(images, labels)] * sizes.steps
    trainer.fit(module, DataLoader(batches, batch_size=None))
    return rates(sizes.steps * sizes.batch, clock.taken[1:])


def cells(sizes: Sizes) -> Iterator[Row]:
    """Small trainings of a sweep, several processes at once on the device: images a second of all together."""
    path = "small trainings, ResNet-8 at 32 px"
    for count in sizes.cells if DEVICE.type == "cuda" else ():
        what = f"images a second, {count} at once, CUDA graphs on streams of one process"
        yield Row(path, what, None, [graphs(count, SECONDS)])
    for kind in KINDS:
        for count in (sizes.cells[-1], sizes.cells[0]):
            rate, shared = at_once(kind, count, SECONDS if sizes != SMALL else 0.5)
            what = f"images a second, {count} at once, {kind}"
            yield Row(path, what, None, [rate], facts={"share of the time": shared})


SWEEP = """\
source: drawn
targets: [digits]
surrogate: configs/source/drawn_surrogate_short.yaml
pretrain: configs/source/drawn_sweep.yaml
transfers:
  probe: configs/transfer/sweep_probe.yaml
methods:
  label_mapping: LabelMapping
ratios: {ratios}
seeds: 1
output: {output}
"""


def sweep(sizes: Sizes) -> Iterator[Row]:
    """A slice of a sweep on the built-in source, from surrogate to report, as the command runs it."""
    ratios = "[0.5]" if sizes == SMALL else "[0.3, 0.5, 0.7]"
    root = Path(__file__).parents[1]
    with TemporaryDirectory() as folder:
        config = Path(folder) / "slice.yaml"
        config.write_text(SWEEP.format(ratios=ratios, output=f"{folder}/runs"))
        command = [sys.executable, "-m", "tlprune", "sweep", "--config", str(config)]
        command += ["--dry_run"] if sizes == SMALL else []
        begin = time.perf_counter()
        done = subprocess.run(command, check=False, cwd=root, capture_output=True, text=True)
        taken = time.perf_counter() - begin
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1][:300])
    yield Row("slice of a sweep, built-in source", f"seconds, ratios {ratios}, with its surrogate", None, [taken])


_ROW = "row "
"""Begins the lines by which a part's process tells its rows."""

PARTS: dict[str, Callable[[Sizes], Iterator[Row]]] = {
    "votes": votes,
    "training": training,
    "loader": loader,
    "features": features,
    "cells": cells,
    "sweep": sweep,
    "compiled": compiled,
}
"""What is measured, in order."""


def rows_apart(name: str, small: bool, left: float) -> Iterator[Row]:
    """The rows of a part, each as it ends; measured in a process of its own, since an error may end use of a GPU."""
    command = [sys.executable, __file__, "--part", name, *(["--small"] if small else [])]
    ended = threading.Event()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:

        def end() -> None:
            ended.set()
            os.killpg(process.pid, signal.SIGKILL)

        clock = threading.Timer(left, end)
        clock.start()
        for line in process.stdout or ():
            if line.startswith(_ROW):
                known = json.loads(line.removeprefix(_ROW))
                yield Row(**{one.name: known[one.name] for one in fields(Row)})
        clock.cancel()
    if process.returncode:
        why = "the time is over" if ended.is_set() else f"its process ended with {process.returncode}"
        yield not_measured(name, "and what follows of it", why)


def rows_of(name: str, sizes: Sizes) -> Iterator[Row]:
    """The rows of a part; where it fails, a last row says why."""
    measure = PARTS[name]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield from measure(sizes)
    except ModuleNotFoundError as error:
        yield not_measured(name, "and what follows of it", f"needs {error.name}, which is not installed")
    except Exception as error:  # the next part counts all the same
        yield not_measured(name, "and what follows of it", f"{type(error).__name__}: {str(error)[:200]}")


def main() -> None:
    """Prints a line for each row, and writes the file anew after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--minutes", type=float, default=8, help="when to end (default: 8)")
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), default=tuple(PARTS), help="parts (default: all)")
    parser.add_argument("--small", action="store_true", help="run everything at a size that shows nothing")
    parser.add_argument("--part", choices=tuple(PARTS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    if given.part:
        for row in rows_of(given.part, SMALL if given.small else Sizes()):
            print(_ROW + json.dumps(row.as_json()), flush=True)
        return
    begin = time.perf_counter()
    where = machine()
    print(
        f"{where['gpu'] or 'no GPU'}; {where['processor']}, {where['cores']} cores; torch {torch.__version__}",
        flush=True,
    )
    found: list[dict[str, Any]] = []
    for name in given.only:
        left = 60 * given.minutes - (time.perf_counter() - begin)
        for row in rows_apart(name, given.small, max(left, 0.1)):
            print(f"{time.perf_counter() - begin:6.0f} s  {row.line()}", flush=True)
            found.append(row.as_json())
            if given.output:
                known = {"machine": where, "torch": torch.__version__, "small": given.small, "rows": found}
                given.output.write_text(json.dumps(known, indent=1) + "\n")
    if not any(row["values"] for row in found):
        sys.exit("nothing was measured")


if __name__ == "__main__":
    main()
