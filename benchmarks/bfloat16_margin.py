"""Can votes be cast in bfloat16 and keep float32's labels? How many images would have to be run again in float32.

    python benchmarks/bfloat16_margin.py --surrogate FILE --source SOURCE --targets TARGET [TARGET ...]

For each target: the share of labels that differ, the error of the difference of two logits, and the share of images
whose two best logits are nearer than the margin that makes all labels equal, or than five standard errors. Ways:
``autocast`` as ``precision: bfloat16`` runs it; ``head`` with the last layer in float32; ``sums`` with sums and
activations between convolutions in float32; ``weights`` with only the weights of convolutions rounded.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear

from tlprune.data.image_size import ImageSize
from tlprune.data.opening import usual_size
from tlprune.data.sources import open_source
from tlprune.data.target_splits import open_target
from tlprune.data.transformed import TransformedDataset
from tlprune.selection.fixed_batches import BATCH_SIZE
from tlprune.selection.forward import _folded
from tlprune.surrogates import ReadSurrogate, common_transform

STANDARD_ERRORS = 5


def in_float32(layer: nn.Linear, features: Tensor) -> Tensor:
    """The last layer as if there were no autocast."""
    with torch.autocast("cpu", enabled=False):
        return linear(features.float(), layer.weight, layer.bias)


def rounded(layer: nn.Conv2d, images: Tensor, inputs: bool) -> Tensor:
    """A convolution of rounded weights, and of rounded inputs or not; its output is float32."""
    weight, bias = layer.weight.bfloat16(), None if layer.bias is None else layer.bias.bfloat16()
    more = (layer.stride, layer.padding, layer.dilation, layer.groups)
    if inputs:
        return conv2d(images.bfloat16(), weight, bias, *more).float()
    return conv2d(images, weight.float(), layer.bias, *more)


@contextmanager
def replaced(network: nn.Module, kind: type[nn.Module], forward: Callable[..., Tensor]) -> Iterator[None]:
    """Layers of a kind run by another function."""
    layers = [layer for layer in network.modules() if type(layer) is kind]
    for layer in layers[-1:] if kind is nn.Linear else layers:
        layer.forward = partial(forward, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)


def logits(network: nn.Module, images: TransformedDataset) -> dict[str, Tensor]:
    """Logits of all images, ``[N, C]``, by way."""
    batches = [
        images.__getitems__(range(start, min(start + BATCH_SIZE, len(images))))[0].contiguous(
            memory_format=torch.channels_last
        )
        for start in range(0, len(images), BATCH_SIZE)
    ]

    def run(autocast: bool) -> Tensor:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return torch.cat([network(batch).float() for batch in batches])

    found = {"float32": run(autocast=False), "autocast": run(autocast=True)}
    with replaced(network, nn.Linear, in_float32):
        found["head"] = run(autocast=True)
    for way, inputs in (("sums", True), ("weights", False)):
        with replaced(network, nn.Conv2d, partial(rounded, inputs=inputs)):
            found[way] = run(autocast=False)
    return found


def main() -> None:
    """Prints a line for each target and way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--surrogate", required=True, help="weights of a classifier of the source")
    parser.add_argument("--source", required=True)
    parser.add_argument("--targets", nargs="+", required=True)
    given = parser.parse_args()
    source = open_source(given.source, None)[0]
    read = ReadSurrogate.read(given.surrogate, None)
    view = common_transform([read], ImageSize(None, usual_size(given.source)))
    network = read.network("classifier", None, source.classes).eval()
    print(f"{'target':<16}{'way':<10}{'differ':>8}{'error':>8}{'needed':>8}{'5 errors':>10}")
    for name in given.targets:
        images = TransformedDataset(open_target(name, 0).train, view)
        with torch.inference_mode():
            folded = _folded(network, images.__getitems__(range(2))[0])
        found = logits(folded, images)
        exact = found.pop("float32")
        for way, ours in found.items():
            flips = exact.argmax(1) != ours.argmax(1)
            best = exact.topk(min(5, exact.shape[1]), 1).indices
            error = float((ours - exact).gather(1, best).diff(dim=1).std())
            first, second = ours.topk(2, 1).values.unbind(1)
            near = first - second
            needed = float((near <= near[flips].max()).float().mean()) if flips.any() else 0.0
            safe = float((near <= STANDARD_ERRORS * error).float().mean())
            shares = f"{float(flips.float().mean()):8.2%}{error:8.4f}{needed:8.1%}{safe:10.1%}"
            print(f"{name.rpartition('/')[2]:<16}{way:<10}{shares}", flush=True)


if __name__ == "__main__":
    main()
