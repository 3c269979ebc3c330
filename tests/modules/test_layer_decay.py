import pytest
import torch

from tlprune import LitClassifier, LitSSL, PrunedSourceDataModule, TransferModule
from tlprune.errors import InputError
from tlprune.models.backbones import create_backbone
from tlprune.modules.layer_decay import layer_rates
from tlprune.modules.optim import WarmupCosineLR

RESNET18 = {"conv1": 0, "bn1": 0} | {
    f"layer{stage}.{block}": 2 * stage - 1 + block for stage in range(1, 5) for block in (0, 1)
}


def slow_rates(network, blocks, decay):
    """Rates by name of a parameter, from the number of its block; there is a head after the last one."""
    last = max(blocks.values())
    names = (name for name, _ in network.named_parameters())
    return {name: decay ** (last + 1 - next(blocks[b] for b in blocks if name.startswith(f"{b}."))) for name in names}


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("resnet8_w4", {"stem": 0, "bn": 0, "stages.0": 1, "stages.1": 2, "stages.2": 3}),
        ("resnet18", RESNET18),
        ("timm:resnet18", RESNET18),
    ],
)
def test_rates_against_a_slow_reference(name, blocks):
    if name.startswith("timm"):
        pytest.importorskip("timm")
    backbone = create_backbone(name)
    rates = layer_rates(backbone, 0.7)
    found = {key: rates[value] for key, value in backbone.network.named_parameters()}
    assert found == pytest.approx(slow_rates(backbone.network, blocks, 0.7))


def test_a_vision_transformer_is_counted_by_its_blocks():
    with torch.device("meta"):
        backbone = create_backbone("vit_b_16")
    rates = layer_rates(backbone, 0.5)
    found = {name: rates[value] for name, value in backbone.network.named_parameters()}
    assert found["class_token"] == found["conv_proj.weight"] == found["encoder.pos_embedding"] == 0.5**13
    assert found["encoder.layers.encoder_layer_0.mlp.0.weight"] == 0.5**12
    assert found["encoder.layers.encoder_layer_11.mlp.0.weight"] == found["encoder.ln.weight"] == 0.5


def groups_of(module, coloured, trainer, **options):
    run = trainer()
    run.fit(module, datamodule=PrunedSourceDataModule(coloured(3, 8), batch_size=8, val_share=0.2, **options))
    return run.optimizers[0].param_groups


def sgd(parameters):
    return torch.optim.SGD(parameters, 0.1, weight_decay=0.01)


def test_each_parameter_is_trained_once_at_its_rate(coloured, trainer):
    module = LitClassifier("resnet8_w8", optimizer=sgd, layer_decay=0.5)
    groups = groups_of(module, coloured, trainer)
    assert [group["lr"] for group in groups] == pytest.approx([0.1 * 0.5**power for power in range(5)])
    assert {*groups[0]["params"]} == {*module.head.parameters()}
    trained = [parameter for group in groups for parameter in group["params"]]
    assert len(trained) == len({*trained}) == len([*module.parameters()])


def test_schedules_scale_every_rate(coloured, trainer):
    module = LitClassifier("resnet8_w8", optimizer=sgd, lr_scheduler=WarmupCosineLR, layer_decay=0.5)
    groups = groups_of(module, coloured, trainer)
    assert [group["initial_lr"] for group in groups] == pytest.approx([0.1 * 0.5**power for power in range(5)])


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
def test_norms_stay_without_decay_beside_it(coloured, trainer):
    module = LitSSL("resnet8_w8", hidden_dim=8, output_dim=8, optimizer=sgd, layer_decay=0.5)
    groups = groups_of(module, coloured, trainer, augment="simclr_small")
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [
        (pytest.approx(0.1 * 0.5**power), decay) for power in range(5) for decay in (0.01, 0)
    ]
    assert all({parameter.ndim for parameter in group["params"]} == {1} for group in groups[1::2])


def test_what_cannot_be_is_refused(coloured, trainer):
    for made in (LitClassifier, LitSSL, TransferModule):
        for wrong in (0, 1.1, float("nan")):
            with pytest.raises(InputError, match=r"`layer_decay` must be in \(0, 1\], got"):
                made("resnet8_w8", layer_decay=wrong)
    one = LitClassifier("resnet8_w8", optimizer=lambda p: sgd([q for g in p for q in g["params"]]), layer_decay=0.5)
    with pytest.raises(InputError, match="keeps groups of parameters as they are: it makes 1 groups of 5"):
        groups_of(one, coloured, trainer)
