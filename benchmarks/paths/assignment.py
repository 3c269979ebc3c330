"""Nearest centroids: against the reference's way, written anew from its description, and against faiss."""

import faiss
import torch
from measuring import Row, interleaved, ratios
from torch import Tensor

from tlprune.selection.centroids import nearest

POINTS, CENTROIDS, WIDTH = 50_000, 1000, 512
PAIRED, LOOPED = 8, 250  # images that are timed, since all would take minutes


def drawn() -> tuple[Tensor, Tensor]:
    """Features as a ReLU gives them, each near one of the centroids."""
    generator = torch.Generator().manual_seed(0)
    centroids = torch.randn(CENTROIDS, WIDTH, generator=generator)
    chosen = torch.randint(0, CENTROIDS, (POINTS,), generator=generator)
    points = centroids[chosen] + torch.randn(POINTS, WIDTH, generator=generator)
    return points.relu(), centroids.relu()


def measure(rounds: int) -> list[Row]:
    """50 thousand features to 1000 centroids."""
    points, centroids = drawn()

    def paired() -> None:
        """As the reference has it: over batches, over images, over centroids."""
        for batch in points[:PAIRED].split(4):
            for point in batch:
                min(float(torch.norm(point - centroid)) for centroid in centroids)

    def looped() -> None:
        """One image after the other, the innermost loop in PyTorch."""
        for point in points[:LOOPED]:
            torch.norm(centroids - point, dim=1).argmin()

    def by_faiss() -> Tensor:
        index = faiss.IndexFlatL2(WIDTH)
        index.add(centroids.numpy())
        return torch.from_numpy(index.search(points.numpy(), 1)[1][:, 0])

    taken = interleaved(
        {"paired": paired, "looped": looped, "faiss": by_faiss, "ours": lambda: nearest(points, centroids)},
        max(rounds, 7),
    )
    exact = torch.cat([torch.cdist(part.double(), centroids.double()).argmin(1) for part in points.split(2000)])
    right = float((nearest(points, centroids) == exact).double().mean())
    paired_all = [seconds * POINTS / PAIRED for seconds in taken["paired"]]
    looped_all = [seconds * POINTS / LOOPED for seconds in taken["looped"]]
    facts = {"points": POINTS, "centroids": CENTROIDS, "width": WIDTH, "images timed in the loops": [PAIRED, LOOPED]}
    return [
        Row("FM assignment", "times the reference's loop", 300, ratios(paired_all, taken["ours"]), facts=facts),
        Row("FM assignment", "times a loop over images alone", None, ratios(looped_all, taken["ours"])),
        Row("FM assignment", "of faiss", 0.8, ratios(taken["faiss"], taken["ours"]), facts=facts),
        Row("FM assignment", "of labels as in float64", 0.9999, [right]),
    ]
