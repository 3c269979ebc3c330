import shutil

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, seed_everything

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
    """Graphs without a GPU: what they would replay runs as it is, and the shape of each batch is noted."""
    shapes = []

    def graphs_of(network, like):
        plain = network.forward

        def replay(images):
            shapes.append(tuple(images.shape))
            return plain(images)

        return replay

    monkeypatch.setattr(compile_backbone, "_graphs_of", graphs_of)
    monkeypatch.setattr(compile_backbone, "_on_gpu", lambda trainer: True)
    return shapes


def fit_small(coloured, trainer, *callbacks, **options):
    seed_everything(0, verbose=False)
    module = LitClassifier("resnet8_w8")
    data = PrunedSourceDataModule(coloured(3, 20), batch_size=8, augment="none")
    trainer(max_epochs=2, callbacks=[*callbacks], **options).fit(module, datamodule=data)
    return module


def test_graphs_are_replayed_once_in_each_training_step_and_never_in_validation(coloured, trainer, replayed):
    plain, module = fit_small(coloured, trainer), fit_small(coloured, trainer, CompileBackbone("graphs"))
    assert replayed == 12 * [(8, 3, 32, 32)]  # 54 images in batches of 8
    assert "forward" not in vars(module.backbone)
    for key, value in plain.state_dict().items():
        assert torch.equal(value, module.state_dict()[key]), key


def test_graphs_do_nothing_without_a_gpu(coloured, trainer):
    plain, module = fit_small(coloured, trainer), fit_small(coloured, trainer, CompileBackbone("graphs"))
    assert all(torch.equal(value, module.state_dict()[key]) for key, value in plain.state_dict().items())


def test_what_does_not_fit_the_graphs_runs_without_them(replayed):
    network = create_backbone("resnet8_w8").train()
    images = torch.randn(4, 3, 32, 32)
    captured = compile_backbone._Captured(network, images)
    for other in (images[:1], images[..., :24], images.double(), images.clone().requires_grad_()):
        captured.is_free = True
        network.double()(other) if other.dtype == torch.float64 else network.float()(other)
    network.float().eval()(images)
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
    data = PrunedSourceDataModule(coloured(3, 20), batch_size=8, augment="simclr_small")
    with pytest.raises(InputError, match="takes one view of each image, got several"):
        trainer(max_epochs=1, callbacks=[CompileBackbone("graphs")]).fit(LitSSL("resnet8_w8"), datamodule=data)
