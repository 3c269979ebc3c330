"""Run by itself and by Lightning's launcher: trains LitSSL and prints what this rank ends with, as one line of JSON."""

import json
import sys
import warnings

import torch
from lightning.pytorch import Callback, Trainer, seed_everything

from tlprune import KNNProbe, PrunedSourceDataModule, RepresentationMonitor
from tlprune.data.datasets import TensorImages
from tlprune.data.target_splits import TargetSplits
from tlprune.modules.ssl import LitSSL
from tlprune.storage.fingerprint import digest_tensors


class AskKeys(Callback):
    """Asks for keys of images that hold their own number, and looks at what the key encoder is given."""

    def __init__(self):
        self.found = {}

    def on_train_start(self, trainer, pl_module):
        rank, seen = trainer.global_rank, []
        images = torch.arange(rank * 8, rank * 8 + 8.0)[:, None, None, None].expand(8, 3, 32, 32).contiguous()
        if pl_module.method == "simclr":
            generator = torch.Generator().manual_seed(0)
            first, second = torch.randn(2, 16, 8, generator=generator, dtype=torch.float64)
            mine = slice(rank * 8, rank * 8 + 8) if trainer.world_size > 1 else slice(None)
            self.found["loss"] = float(pl_module.nt_xent(first[mine], second[mine]))
            return
        hook = pl_module.key_backbone.register_forward_pre_hook(lambda _, given: seen.append(given[0][:, 0, 0, 0]))
        pl_module.eval()
        with torch.no_grad():
            keys = pl_module._keys(images)
            hook.remove()
            alone = pl_module.key_projection(pl_module.key_backbone(images))
        pl_module.train()
        self.found["given"] = seen[0].int().tolist()
        self.found["error"] = float((keys - alone).abs().max())


def noise(count: int, seed: int) -> TensorImages:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return TensorImages(pixels, torch.arange(count) % 4, ["a", "b", "c", "d"])


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    method, world = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(1)
    seed_everything(0, verbose=False)
    data = PrunedSourceDataModule(noise(32, 0), augment="moco", batch_size=8, val_share=0.0)
    module = LitSSL("resnet8_w8", method, hidden_dim=16, output_dim=8, queue_size=24, momentum=0.9)
    ask = AskKeys()
    target = TargetSplits("noise", noise(70, 1), noise(66, 2), None, 32, "drawn")
    trainer = Trainer(
        accelerator="cpu",
        devices=world,
        strategy="ddp" if world > 1 else "auto",
        max_epochs=2,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ask, KNNProbe(target), RepresentationMonitor(every_n_steps=1)],
    )
    trainer.fit(module, datamodule=data)
    state = module.state_dict()
    said = {
        "rank": trainer.global_rank,
        "weights": digest_tensors({key: value for key, value in state.items() if "running" not in key}),
        "queue_place": int(state.get("queue_place", -1)),
        **{name: float(value) for name, value in trainer.callback_metrics.items() if name != "train/loss"},
        **ask.found,
    }
    print("\n" + json.dumps(said), flush=True)
