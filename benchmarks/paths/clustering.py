"""k-means: against faiss on all points, and scikit-learn's."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import faiss
import torch
from measuring import Row, interleaved, ratios
from sklearn.cluster import KMeans
from torch import Tensor, nn

from tlprune.selection.features import SourceFeatures
from tlprune.selection.kmeans import ITERATIONS, fit_clusters

POINTS, CLUSTERS, WIDTH = 100_000, 1000, 512


class Points:
    """Samples whose pixels are their features: a thousand centres and noise."""

    transform_config = {"view": "none", "image_size": 1}
    digest = "drawn points"

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        centres = torch.randn(CLUSTERS, WIDTH, generator=generator)
        chosen = torch.randint(0, CLUSTERS, (POINTS,), generator=generator)
        noise = torch.randn(POINTS, WIDTH, generator=generator)
        self.values = (centres[chosen] + 1.5 * noise).relu().half().float()

    def __len__(self) -> int:
        return POINTS

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.values[index, :, None, None], 0

    def name(self, index: int) -> str:
        return f"point {index}"


def measure(rounds: int) -> list[Row]:
    """100 thousand features, 1000 clusters, 20 rounds of Lloyd's algorithm, and the cluster of each; a seed a round."""
    points = Points()
    values = points.values.numpy()
    found: dict[str, list[Any]] = {"ours": [], "faiss": [], "sklearn": []}

    def inertia(centroids: Any) -> float:
        index = faiss.IndexFlatL2(WIDTH)
        index.add(centroids)
        return float(index.search(values, 1)[0].sum())

    with TemporaryDirectory() as folder:
        features = SourceFeatures(nn.Flatten(), points, Path(folder))
        features.extract()

        def ours() -> None:
            found["ours"].append(fit_clusters(features, CLUSTERS, len(found["ours"])).centroids.numpy())

        def by_faiss() -> None:
            kmeans = faiss.Kmeans(
                WIDTH,
                CLUSTERS,
                niter=ITERATIONS,
                seed=len(found["faiss"]),
                max_points_per_centroid=POINTS,
                min_points_per_centroid=1,
            )
            kmeans.train(values)
            kmeans.index.search(values, 1)
            found["faiss"].append(kmeans.centroids)

        def by_sklearn() -> None:
            kmeans = KMeans(CLUSTERS, init="random", n_init=1, max_iter=ITERATIONS, tol=0, random_state=0)
            kmeans.fit(values)
            found["sklearn"].append(kmeans.cluster_centers_)

        taken = interleaved({"faiss": by_faiss, "ours": ours}, rounds, warm=False)
        once = interleaved({"sklearn": by_sklearn, "faiss": by_faiss}, 1, warm=False)
    reached = {name: [inertia(one) for one in centroids] for name, centroids in found.items()}
    over = [a / b for a, b in zip(reached["ours"], reached["faiss"][:rounds], strict=True)]
    peer = reached["sklearn"][0] / reached["faiss"][0]
    facts = {"points": POINTS, "clusters": CLUSTERS, "width": WIDTH, "rounds of Lloyd's": ITERATIONS}
    return [
        Row("k-means", "times faiss on all points", 0.75, ratios(taken["faiss"], taken["ours"]), facts=facts),
        Row("k-means", "inertia over faiss's", 1.003, over, least=False),
        Row("k-means", "scikit-learn: times faiss on all points", None, ratios(once["faiss"], once["sklearn"])),
        Row("k-means", "scikit-learn: inertia over faiss's", None, [peer], False),
    ]
