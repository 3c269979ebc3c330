"""The extra ``bolts``, in an environment of its own (``make test-bolts``); elsewhere these tests are skipped."""

from pathlib import Path

import pytest
import torch

from tlprune.models.weights import load_backbone, read_weights

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # the library is no longer kept up, and says so of itself in many ways
]


@pytest.fixture(autouse=True)
def bolts():
    return pytest.importorskip("pl_bolts")


def test_lightning_stays_as_it_is():
    import lightning
    import pytorch_lightning

    assert int(lightning.__version__.split(".")[0]) >= 2
    assert int(pytorch_lightning.__version__.split(".")[0]) == 1


@pytest.mark.usefixtures("drawn_cached")
def test_optimiser_and_schedule_from_yaml(tmp_path, monkeypatch):
    from tlprune.lightning_cli import run

    monkeypatch.chdir(tmp_path)
    config = Path(__file__).parent.parent / "configs" / "ssl" / "drawn_bolts.yaml"
    fast = ["--trainer.limit_train_batches=2", "--trainer.max_epochs=3", "--trainer.accelerator=cpu"]
    fast += ["--model.lr_scheduler.max_epochs=3", "--trainer.enable_progress_bar=false"]
    done = run(["fit", "--config", str(config), *fast])
    [optimizer] = done.trainer.optimizers
    [schedule] = done.trainer.lr_scheduler_configs
    assert type(optimizer).__module__.startswith("pl_bolts")
    assert type(schedule.scheduler).__name__ == "LinearWarmupCosineAnnealingLR"
    assert schedule.interval == "epoch"
    assert optimizer.param_groups[0]["lr"] < 0.3
    assert read_weights("runs/ssl/bolts.safetensors").backbone == "resnet8_w16"


def checkpoint(module, path):
    """As Lightning writes one of this module."""
    torch.save({"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}, path)


def features(network, images):
    with torch.inference_mode():
        found = network.eval()(images)
    return found[-1] if isinstance(found, (list, tuple)) else found


def test_simclr_checkpoint_is_a_backbone(tmp_path):
    from pl_bolts.models.self_supervised import SimCLR

    torch.manual_seed(0)
    theirs = SimCLR(gpus=1, num_samples=64, batch_size=8, dataset="imagenet", arch="resnet18", hidden_mlp=512)
    checkpoint(theirs, tmp_path / "simclr.ckpt")
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(
        load_backbone(tmp_path / "simclr.ckpt").eval()(images), features(theirs.encoder, images).flatten(1)
    )
    assert read_weights(tmp_path / "simclr.ckpt").backbone == "resnet18"


def test_moco_v2_checkpoint_is_a_backbone(tmp_path):
    from pl_bolts.models.self_supervised import Moco_v2

    torch.manual_seed(0)
    theirs = Moco_v2(base_encoder="resnet18", emb_dim=16, num_negatives=32, use_mlp=True)
    checkpoint(theirs, tmp_path / "moco.ckpt")
    theirs.encoder_q.fc = torch.nn.Identity()
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(load_backbone(tmp_path / "moco.ckpt").eval()(images), features(theirs.encoder_q, images))
