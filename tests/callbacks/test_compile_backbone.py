import shutil

import pytest
import torch
from lightning.pytorch import LightningModule, seed_everything

from tlprune import CompileBackbone, ExportBackbone, LitClassifier, PrunedSourceDataModule
from tlprune.errors import InputError
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
