import json
import math
import re
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from forked import run_ranks
from tlprune import PrunedSourceDataModule
from tlprune.errors import InputError
from tlprune.models.weights import load_backbone
from tlprune.modules.optim import WarmupCosineLR
from tlprune.modules.ssl import LitSSL, info_nce

pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed")


def unit(count, width, seed):
    values = torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return values / values.norm(dim=1, keepdim=True)


def slow_info_nce(queries, keys, queue, temperature):
    total = 0.0
    for query, key in zip(queries.tolist(), keys.tolist(), strict=True):
        alike = [
            sum(a * b for a, b in zip(query, other, strict=True)) / temperature for other in [key, *queue.tolist()]
        ]
        total += math.log(sum(math.exp(one) for one in alike)) - alike[0]
    return total / len(queries)


def slow_nt_xent(first, second, temperature):
    """Chen et al., 2020, equation 1, in plain Python."""
    views = [*first.tolist(), *second.tolist()]
    count, total = len(first), 0.0
    for i, one in enumerate(views):
        alike = {j: sum(a * b for a, b in zip(one, other, strict=True)) / temperature for j, other in enumerate(views)}
        others = math.log(sum(math.exp(value) for j, value in alike.items() if j != i))
        total += others - alike[(i + count) % (2 * count)]
    return total / (2 * count)


@pytest.mark.parametrize("seed", range(20))
def test_losses_equal_slow_references(seed):
    queries, keys, queue = unit(5, 7, seed), unit(5, 7, seed + 100), unit(9, 7, seed + 200)
    assert float(info_nce(queries, keys, queue, 0.2)) == pytest.approx(slow_info_nce(queries, keys, queue, 0.2))
    module = LitSSL("resnet8_w8", temperature=0.3)
    assert float(module.nt_xent(queries, keys)) == pytest.approx(slow_nt_xent(queries, keys, 0.3))
    assert float(module.nt_xent(keys, queries)) == pytest.approx(float(module.nt_xent(queries, keys)))


def test_info_nce_of_alike_keys_is_the_logarithm_of_their_number():
    same = torch.ones(3, 1)
    assert float(info_nce(same, same, torch.ones(7, 1), 0.1)) == pytest.approx(math.log(8))


@pytest.fixture
def moco():
    torch.manual_seed(0)
    return LitSSL("resnet8_w8", "moco", hidden_dim=16, output_dim=8, queue_size=10, momentum=0.9)


def test_key_encoder_starts_equal_and_follows_by_its_formula(moco):
    for query, key in moco._pairs():
        assert all(
            torch.equal(a, b) for a, b in zip(query.state_dict().values(), key.state_dict().values(), strict=True)
        )
        assert not any(parameter.requires_grad for parameter in key.parameters())
    before = [parameter.clone() for parameter in moco.key_backbone.parameters()]
    with torch.no_grad():
        for parameter in moco.backbone.parameters():
            parameter.add_(1.0)
    moco._follow()
    for old, new, trained in zip(before, moco.key_backbone.parameters(), moco.backbone.parameters(), strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * trained)


def test_queue_is_first_in_first_out_and_wraps(moco, monkeypatch):
    monkeypatch.setattr(moco, "all_gather", lambda keys: keys)
    before = moco.queue.clone()
    batches = [unit(4, 8, seed).float() for seed in range(4)]
    for batch in batches[:2]:
        moco._enqueue(batch)
    assert torch.equal(moco.queue, torch.cat([batches[0], batches[1], before[8:]]))
    moco._enqueue(batches[2])
    assert torch.equal(moco.queue[8:], batches[2][:2])
    assert torch.equal(moco.queue[:2], batches[2][2:])
    assert int(moco.queue_place) == 2
    many = unit(13, 8, 9).float()
    moco._enqueue(many)  # more than it holds: the last ones stay
    assert sorted(map(tuple, moco.queue.tolist())) == sorted(map(tuple, many[-10:].tolist()))


@pytest.fixture
def train(coloured, trainer, tmp_path):
    def run(method, name="run", epochs=2, resume=None, seed=0, **options):
        seed_everything(seed, verbose=False)
        augment = "moco" if method == "moco" else "simclr_small"
        data = PrunedSourceDataModule(coloured(4, 16), augment=augment, batch_size=16, val_share=0.25)
        module = LitSSL(
            "resnet8_w8",
            method,
            hidden_dim=32,
            output_dim=16,
            queue_size=48,
            momentum=0.9,
            optimizer=lambda parameters: torch.optim.SGD(parameters, 0.1, 0.9),
            lr_scheduler=WarmupCosineLR,
        )
        save = ModelCheckpoint(tmp_path / name, "{epoch}", every_n_epochs=1, save_top_k=-1)
        fit = trainer(max_epochs=epochs, callbacks=[save], enable_checkpointing=True, **options)
        fit.fit(module, datamodule=data, ckpt_path=resume)
        return module, fit

    return run


def weights_of(module):
    return torch.cat([value.detach().flatten().double() for value in module.state_dict().values()])


@pytest.mark.parametrize("method", ["simclr", "moco"])
def test_two_and_two_epochs_equal_four_bit_for_bit(train, tmp_path, method):
    whole, _ = train(method, "whole", 4)
    # stopped in the middle of the plan: the schedule is that of four epochs
    resumed, fit = train(method, "rest", 4, resume=tmp_path / "whole" / "epoch=1.ckpt")
    assert fit.current_epoch == 4
    assert torch.equal(weights_of(resumed), weights_of(whole))
    if method == "moco":
        assert torch.equal(resumed.queue, whole.queue)
        assert int(resumed.queue_place) == int(whole.queue_place)


@pytest.mark.parametrize("method", ["simclr", "moco"])
def test_training_brings_views_of_an_image_together_and_others_apart(train, method):
    """In the mean of three seeds: how one small training goes hangs on the processor."""

    def gap(epochs, seed):
        module, fit = train(method, f"{epochs} {seed}", epochs, seed=seed)
        (first, second), _ = next(iter(fit.datamodule.train_dataloader()))
        with torch.inference_mode():
            projected = (module.eval().projection(module(views)) for views in (first, second))
            query, key = (nn.functional.normalize(one, dim=1) for one in projected)
        alike = query @ key.T
        return float(alike.diagonal().mean() - alike[~torch.eye(16, dtype=torch.bool)].mean())

    long = 15 if method == "simclr" else 60
    assert sum(gap(long, seed) - gap(1, seed) for seed in range(3)) / 3 > 0.05


@pytest.mark.parametrize("method", ["simclr", "moco"])
def test_loss_is_finite_under_bfloat16(train, method):
    _, fit = train(method, "bf16", 1, precision="bf16-mixed")
    assert fit.callback_metrics["train/loss"].dtype == torch.float32
    assert fit.callback_metrics["train/loss"].isfinite()


def test_a_checkpoint_is_a_surrogate_and_a_pretrained_backbone(train, tmp_path):
    module, _ = train("moco", "saved", 1)
    backbone = load_backbone(tmp_path / "saved" / "epoch=0.ckpt")
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(backbone.eval()(images), module.eval()(images))


def test_somebody_elses_module_learns_from_our_two_views(coloured, trainer):
    class SimSiamLike(LightningModule):
        def __init__(self):
            super().__init__()
            self.network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 8))

        def training_step(self, batch, batch_idx):
            (first, second), _ = batch
            return -nn.functional.cosine_similarity(self.network(first), self.network(second)).mean()

        def validation_step(self, batch, batch_idx):
            pass

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.01)

    data = PrunedSourceDataModule(coloured(4, 16), augment="simclr", batch_size=16, val_share=0.0)
    module = SimSiamLike()
    before = module.network[1].weight.clone()
    trainer(limit_val_batches=0).fit(module, datamodule=data)
    assert not torch.equal(module.network[1].weight, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "byol"}, "`method` must be 'simclr', 'moco' or 'vicreg', got 'byol'"),
        ({"temperature": 0.0}, "`temperature` must be above 0, got 0.0"),
        ({"queue_size": 0}, "`queue_size` must be at least 1, got 0"),
        ({"momentum": 1.5}, r"`momentum` must be in \[0, 1\], got 1.5"),
        ({"backbone": "resnet51"}, "did you mean"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        LitSSL(**{"backbone": "resnet8_w8", **options})


@pytest.fixture(scope="module")
def on_ranks(tmp_path_factory):
    def run(method):
        said = []
        folder = tmp_path_factory.mktemp("ranks")
        for world in (1, 2):
            script = Path(__file__).with_name("contrast_on_ranks.py")
            out = "".join(run_ranks(world, [sys.executable, script, method, world], folder))
            said.append([json.loads(one) for one in re.findall(r"\{[^{}]*\}", out)])
        return said

    return run


def test_simclr_compares_with_the_images_of_all_ranks(on_ranks):
    [alone], [one, other] = on_ranks("simclr")
    assert one["weights"] == other["weights"]
    assert (one["loss"] + other["loss"]) / 2 == pytest.approx(alone["loss"], rel=1e-12)
    generator = torch.Generator().manual_seed(0)
    first, second = nn.functional.normalize(
        torch.randn(2, 16, 8, generator=generator, dtype=torch.float64), dim=2
    ).unbind()
    assert alone["loss"] == pytest.approx(slow_nt_xent(first, second, 0.5), rel=1e-6)


def test_moco_computes_keys_beside_images_of_other_ranks(on_ranks):
    [alone], both = on_ranks("moco")
    one, other = sorted(both, key=lambda said: said["rank"])
    assert alone["given"] == list(range(8))
    assert sorted(one["given"] + other["given"]) == list(range(16))  # each image once
    assert 0 < len(set(one["given"]) & set(range(8))) < 8  # of both ranks
    assert max(one["error"], other["error"]) < 1e-6  # each image gets its own key back
    # all ranks end alike, queue included, and know the same
    same = ("weights", "queue_place", "val/knn_accuracy", "train/feature_std", "train/alignment")
    assert {name: one[name] for name in same} == {name: other[name] for name in same}
    assert one["queue_place"] == 4 * 16 % 24


def optimizer_of(trainer, coloured, **options):
    module = LitSSL("resnet8_w8", hidden_dim=8, output_dim=8, **options)
    data = PrunedSourceDataModule(coloured(4, 32), augment="simclr", batch_size=64, val_share=0.0)
    run = trainer(accumulate_grad_batches=2, limit_val_batches=0)
    run.fit(module, datamodule=data)
    return run.optimizers[0]


@pytest.mark.parametrize(("scaling", "rate"), [("none", 0.4), ("linear", 0.2), ("sqrt", 0.4 * math.sqrt(0.5))])
def test_learning_rate_follows_the_images_of_a_step(trainer, coloured, scaling, rate):
    optimizer = optimizer_of(
        trainer, coloured, lr_scaling=scaling, optimizer=lambda parameters: torch.optim.SGD(parameters, 0.4)
    )
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([rate, rate])


def test_lars_leaves_biases_and_normalisation_alone(trainer, coloured):
    from lightly.utils.lars import LARS

    optimizer = optimizer_of(trainer, coloured, optimizer=lambda parameters: LARS(parameters, 0.3, weight_decay=1e-6))
    decayed, plain = optimizer.param_groups
    assert decayed["weight_decay"] == 1e-6
    assert plain["weight_decay"] == 0
    assert {parameter.ndim for parameter in plain["params"]} == {1}
    assert 1 not in {parameter.ndim for parameter in decayed["params"]}
    everything = optimizer_of(trainer, coloured, method="moco", queue_size=8)
    assert len(everything.param_groups) == 1


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
def test_scaling_needs_a_loader_that_says_its_batch_size(trainer):
    def endless():
        while True:
            yield [torch.randn(4, 3, 32, 32)] * 2, torch.zeros(4)

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return endless()

    loader = torch.utils.data.DataLoader(Stream(), batch_size=None)
    with pytest.raises(InputError, match="`lr_scaling` needs one training DataLoader with a `batch_size`"):
        trainer(max_steps=1, limit_val_batches=0).fit(LitSSL("resnet8_w8", lr_scaling="linear", hidden_dim=8), loader)
