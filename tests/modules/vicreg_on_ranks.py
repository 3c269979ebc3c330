"""Run on each rank of a job: one step of VICReg on this rank's share of the images; prints its loss and gradients."""

import json
import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tlprune.modules.ssl import LitSSL


class Step(nn.Module):
    """The loss of a step, for DistributedDataParallel; BatchNorm does not mix images, so that ranks are comparable."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.module = LitSSL("resnet8_w8", "vicreg", hidden_dim=16, output_dim=12).double().eval()

    def forward(self, first, second):
        return self.module._vicreg(first, second)


def views_of_all():
    """Two views of eight images."""
    return torch.randn(2, 8, 3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def loss_and_gradients(step, views):
    """The loss of a step, and the length of the gradient of each weight."""
    loss = step(*views)
    loss.backward()
    return {"loss": float(loss.detach()), "gradients": [float(weight.grad.norm()) for weight in step.parameters()]}


if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    said = loss_and_gradients(DistributedDataParallel(Step()), views_of_all()[:, 4 * rank : 4 * rank + 4])
    sys.stdout.write("\n" + json.dumps(said) + "\n")
    sys.stdout.flush()
    dist.destroy_process_group()
