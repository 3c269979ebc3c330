import io
import shutil
from copy import deepcopy

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, seed_everything
from lightning.pytorch.callbacks import GradientAccumulationScheduler, StochasticWeightAveraging

from tlprune import CompileBackbone, ExportBackbone, LitClassifier, LitSSL, PrunedSourceDataModule
from tlprune.callbacks import compile_backbone
from tlprune.errors import InputError
from tlprune.models.backbones import create_backbone
from tlprune.models.weights import load_classifier


@pytest.mark.filterwarnings("ignore")  # what compilers of other people's code warn of
@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_compiled_network_learns_the_same_and_is_saved_as_ever(backend, coloured, trainer, tmp_path, monkeypatch):
    """With a user's compiler, and with the one of torch that generates no code, which takes seconds."""
    if backend == "inductor" and shutil.which("g++") is None:
        pytest.skip("compiling for a CPU needs a C++ compiler")
    if backend == "eager":
        compile_ = torch.compile
        traced = lambda call, mode, dynamic: compile_(call, dynamic=dynamic, backend=backend)  # noqa: E731
        monkeypatch.setattr(torch, "compile", traced)

    def fit(name, *callbacks):
        seed_everything(0, verbose=False)
        module = LitClassifier("resnet8_w8")
        data = PrunedSourceDataModule(coloured(3, 20), batch_size=8, augment="none")
        export = ExportBackbone(str(tmp_path / name))
        run = trainer(max_steps=4, max_epochs=-1, callbacks=[export, *callbacks])
        run.fit(module, datamodule=data)
        return module

    plain, compiled = fit("plain.safetensors"), fit("compiled.safetensors", CompileBackbone())
    assert compiled.backbone._compiled_call_impl is not None
    assert plain.state_dict().keys() == compiled.state_dict().keys()
    images = torch.randn(4, 3, 32, 32)
    ours, _ = load_classifier(tmp_path / "plain.safetensors")
    theirs, _ = load_classifier(tmp_path / "compiled.safetensors")
    torch.testing.assert_close(ours.eval()(images), theirs.eval()(images), rtol=1e-3, atol=1e-3)


def test_an_unknown_mode_is_refused():
    with pytest.raises(InputError, match="unknown `mode` 'max-autotun': did you mean 'max-autotune'?"):
        CompileBackbone(mode="max-autotun")


def test_a_module_without_a_backbone_is_refused(trainer):
    with pytest.raises(InputError, match="CompileBackbone needs a module with a `backbone`, got LightningModule"):
        CompileBackbone().on_fit_start(trainer(), LightningModule())


@pytest.fixture
def replayed(monkeypatch):
    """Graphs without a GPU: replayed on the tensors there were, frozen as then; the shapes of batches are noted."""
    shapes = []

    def graphs_of(network, like):
        there = {name: one if one.requires_grad else one.detach() for name, one in network.named_parameters()}
        there |= dict(network.named_buffers())

        def replay(images):
            shapes.append(tuple(images.shape))
            return torch.func.functional_call(network, there, images)

        return replay

    monkeypatch.setattr(compile_backbone, "_graphs_of", graphs_of)
    monkeypatch.setattr(compile_backbone, "_on_gpu", lambda trainer: True)
    return shapes


def fit_small(coloured, trainer, *callbacks, epochs=2, kind=LitClassifier, **options):
    seed_everything(0, verbose=False)
    module = kind("resnet8_w8")
    data = PrunedSourceDataModule(coloured(3, 20), batch_size=8, augment="none")
    trainer(max_epochs=epochs, callbacks=[*callbacks], **options).fit(module, datamodule=data)
    return module


def assert_equal_weights(one, other):
    for key, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


def test_graphs_are_replayed_once_in_each_training_step_and_never_in_validation(coloured, trainer, replayed):
    plain, module = fit_small(coloured, trainer), fit_small(coloured, trainer, CompileBackbone("graphs"))
    assert replayed == 12 * [(8, 3, 32, 32)]  # 54 images in batches of 8
    assert "forward" not in vars(module.backbone)
    assert_equal_weights(plain, module)


class Thaws(Callback):
    """Trains the first layers from the second epoch on, and keeps a batch norm in evaluation."""

    def on_fit_start(self, trainer, pl_module):
        pl_module.backbone.network.stem.requires_grad_(False)

    def on_train_epoch_start(self, trainer, pl_module):
        pl_module.backbone.network.bn.eval()
        pl_module.backbone.network.stem.requires_grad_(trainer.current_epoch > 0)


def test_layers_that_are_unfrozen_learn_and_those_in_evaluation_stay_so(coloured, trainer, replayed):
    plain = fit_small(coloured, trainer, Thaws())
    module = fit_small(coloured, trainer, Thaws(), CompileBackbone("graphs"))
    assert len(replayed) == 12
    assert_equal_weights(plain, module)
    assert module.backbone.network.bn.num_batches_tracked == 0


@pytest.mark.filterwarnings("ignore")  # Lightning's callback swaps the schedule, and says so
def test_averaged_weights_have_their_own_statistics(coloured, trainer, replayed):
    """The callback replaces the statistics of batch norms, and averages them over all batches of one more epoch."""
    swa = lambda: StochasticWeightAveraging(1e-3, swa_epoch_start=1, annealing_epochs=1)  # noqa: E731
    plain = fit_small(coloured, trainer, swa(), epochs=3)
    module = fit_small(coloured, trainer, swa(), CompileBackbone("graphs"), epochs=3)
    assert len(replayed) == 18
    assert_equal_weights(plain, module)


def test_what_replaces_a_layer_within_an_epoch_is_seen_at_once(replayed):
    network = create_backbone("resnet8_w8").train()
    images = torch.randn(4, 3, 32, 32)
    captured = compile_backbone._Captured(network, images)
    expected = network(images)
    network.network.bn.running_mean = network.network.bn.running_mean.clone()
    captured.is_free = True
    assert torch.equal(network(images), expected)
    assert network.network.bn.num_batches_tracked == 2
    assert not captured.is_current
    assert replayed == []


def test_copies_of_a_network_with_graphs_are_networks_of_their_own(replayed):
    network = create_backbone("resnet8_w8").train()
    images = torch.randn(4, 3, 32, 32)
    captured = compile_backbone._Captured(network, images)
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    captured.is_free = True
    for copy in (deepcopy(network), torch.load(file, weights_only=False)):
        torch.nn.init.zeros_(copy.network.stem.weight)
        assert not torch.equal(copy(images), network(images))
        assert deepcopy(copy)(images).isfinite().all()
    assert replayed == [(4, 3, 32, 32)]
    captured.remove()
    assert "forward" not in vars(network)


class Adds(LitClassifier):
    """A module that adds up gradients in its own way."""

    def optimizer_zero_grad(self, epoch, batch_idx, optimizer):
        optimizer.zero_grad(set_to_none=False)


def test_graphs_do_nothing_without_a_gpu(coloured, trainer):
    plain, module = fit_small(coloured, trainer), fit_small(coloured, trainer, CompileBackbone("graphs"))
    assert all(torch.equal(value, module.state_dict()[key]) for key, value in plain.state_dict().items())


def test_what_does_not_fit_the_graphs_runs_without_them(replayed):
    network = create_backbone("resnet8_w8").train()
    images = torch.randn(4, 3, 32, 32)
    captured = compile_backbone._Captured(network, images)
    captured.is_free = True
    for other in (images[:1], images[..., :24], images.clone().requires_grad_()):
        network(other)
    with pytest.raises(RuntimeError, match="type"):  # the network's own error
        network(images.double())
    network.eval()(images)
    with torch.no_grad():
        network.train()(images)
    assert replayed == []
    network(images)
    network(images)  # a second view in the same step
    assert replayed == [(4, 3, 32, 32)]


def test_graphs_that_an_error_leaves_are_removed(coloured, trainer, replayed):
    class Fails(Callback):
        def on_train_batch_end(self, *_):
            raise RuntimeError("full disk")

    module = LitClassifier("resnet8_w8")
    data = PrunedSourceDataModule(coloured(3, 20), batch_size=8, augment="none")
    with pytest.raises(RuntimeError, match="full disk"):
        trainer(max_epochs=1, callbacks=[CompileBackbone("graphs"), Fails()]).fit(module, datamodule=data)
    assert "forward" not in vars(module.backbone)


def test_graphs_take_neither_several_views_nor_added_gradients(coloured, trainer, replayed):
    with pytest.raises(
        InputError, match="does not add up gradients of several batches, got accumulate_grad_batches: 2"
    ):
        fit_small(coloured, trainer, CompileBackbone("graphs"), accumulate_grad_batches=2)
    with pytest.raises(InputError, match="got accumulate_grad_batches: 4"):
        fit_small(coloured, trainer, CompileBackbone("graphs"), GradientAccumulationScheduler({0: 1, 1: 4}))
    with pytest.raises(InputError, match=r"needs gradients that are None before each backward pass.*; Adds adds to"):
        fit_small(coloured, trainer, CompileBackbone("graphs"), kind=Adds)
    data = PrunedSourceDataModule(coloured(3, 20), batch_size=8, augment="simclr_small")
    with pytest.raises(InputError, match="takes one view of each image, got several"):
        trainer(max_epochs=1, callbacks=[CompileBackbone("graphs")]).fit(LitSSL("resnet8_w8"), datamodule=data)
