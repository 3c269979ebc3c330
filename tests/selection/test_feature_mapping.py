import math

import numpy as np
import pytest
import torch
from torch import nn

from tlprune.data.transformed import TransformedDataset
from tlprune.data.transforms import EvalTransform
from tlprune.errors import InputError
from tlprune.models.backbones import Classifier, create_backbone
from tlprune.selection.baselines import RandomSelector
from tlprune.selection.feature_mapping import FeatureMapping
from tlprune.selection.features import SourceFeatures
from tlprune.selection.kmeans import cached_clusters


def slow_feature_mapping(source, labels, centroids, target, target_labels, balance):
    """The method in NumPy, one image at a time. ``centroids`` None takes the class means."""
    if centroids is None:
        centroids = np.stack([source[labels == label].mean(0) for label in range(labels.max() + 1)]).astype(np.float32)
        unit_of_sample = labels
    else:
        unit_of_sample = np.array([((centroids.astype(np.float64) - row) ** 2).sum(1).argmin() for row in source])
    units = len(centroids)
    votes, sums = [0.0] * units, [0] * units
    sizes = {label: list(target_labels).count(label) for label in set(target_labels)}
    assignments = []
    for row, label in zip(target, target_labels, strict=True):
        weight = len(target) / (len(sizes) * sizes[label]) if balance else 1.0
        far = [
            math.sqrt(sum((float(a) - float(b)) ** 2 for a, b in zip(row, centre, strict=True))) for centre in centroids
        ]
        nearest = far.index(min(far))
        assignments.append(nearest)
        votes[nearest] += weight
        for unit in range(units):
            sums[unit] += round(far[unit] * weight * 10**6)
    order = sorted(range(units), key=lambda unit: (-votes[unit], sums[unit], unit))
    return assignments, votes, order, unit_of_sample


@pytest.mark.parametrize("case", range(200))
def test_equals_brute_force(case, points, tmp_path):
    rng = np.random.default_rng(case)
    images, width = int(rng.choice([1, 2, 30, 80])), int(rng.choice([1, 2, 5]))
    voters, target_classes = int(rng.choice([1, 2, 20, 70])), int(rng.choice([1, 3]))
    # small whole numbers: exact in every precision, so that ties are ties; images are duplicated, voters unbalanced
    source = rng.integers(-3, 4, (images, width)).astype(np.float32)
    target = rng.integers(-3, 4, (voters, width)).astype(np.float32)
    target_labels = (
        np.sort(rng.integers(0, target_classes, voters)) if case % 2 else (rng.random(voters) < 0.1).astype(int)
    )
    balance = bool(case % 3 == 0)
    by_class = bool(case % 2)
    classes = int(rng.integers(1, min(images, 12) + 1))
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, images - classes)])
    names = [f"class {label}" for label in range(classes)]
    seen = points(torch.from_numpy(source), torch.from_numpy(labels), names, digest=f"source {case}")
    named = tuple(map(str, range(int(target_labels.max()) + 1)))
    voting = points(torch.from_numpy(target), torch.from_numpy(target_labels), named, digest=f"target {case}")
    centroids = None
    if by_class:
        selector = FeatureMapping("classes", balance=balance)
    else:
        distinct = len(np.unique(source, axis=0))
        count = int(rng.choice([1, distinct, max(1, distinct // 2)]))  # one unit, and as many as there can be, included
        selector = FeatureMapping(num_clusters=count, balance=balance)
        features = SourceFeatures(nn.Flatten(), seen, tmp_path / "cache")
        features.extract()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tlprune.selection.kmeans.warn", lambda *_, **__: None)
            centroids = cached_clusters(features, count, 0, tmp_path / "cache").centroids.numpy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tlprune.selection.kmeans.warn", lambda *_, **__: None)
        found = selector.select(seen, voting, nn.Flatten(), cache=tmp_path / "cache")
    expected = slow_feature_mapping(source, labels, centroids, target, target_labels, balance)
    assert found.assignments.tolist() == expected[0]
    assert found.votes.tolist() == pytest.approx(expected[1])
    assert found.unit_of_sample.tolist() == expected[3].tolist()
    if not balance:  # weights are fractions, whose sums may round otherwise
        assert found.ranking.tolist() == expected[2]
    keep = max(1, len(expected[2]) // 2)
    best = set(found.ranking[:keep].tolist())
    assert found.keep(units=keep).tolist() == [image for image, unit in enumerate(expected[3]) if unit in best]


class Unread:
    """A source whose images cannot be looked at."""

    def __init__(self, source):
        self.labels, self.classes, self.fingerprint = source.labels, source.classes, source.fingerprint
        self.transform_config = source.transform_config

    def __len__(self):
        return len(self.labels)


@pytest.fixture
def planted(coloured):
    """A source of twelve colours without labels, of which the target has four; a network of random weights."""
    source = coloured(12, 30)
    source.classes = ()
    truth, source.labels = source.labels, torch.zeros_like(source.labels)
    target = TransformedDataset(coloured(4, 10, seed=3), EvalTransform(32))
    mean_colour = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return TransformedDataset(source, EvalTransform(32)), target, mean_colour, truth


def test_relevant_images_are_above_irrelevant_ones_without_labels(planted, tmp_path):
    source, target, backbone, truth = planted
    found = FeatureMapping(num_clusters=12).select(source, target, backbone, cache=tmp_path)
    assert found.unit_kind == "cluster"
    assert found.unit_names == ()
    kept = found.keep(coverage=1.0)
    assert set(truth[kept].tolist()) == {0, 1, 2, 3}
    assert len(kept) == 120
    hits = []
    for seed in range(20):
        by_chance = RandomSelector(seed, unit="sample").select(source).keep(images=120)
        hits.append(int((truth[by_chance] < 4).sum()))
    assert max(hits) < 60


def test_classes_with_relevant_ones_first(planted, coloured, tmp_path):
    _, target, backbone, _ = planted
    labelled = TransformedDataset(coloured(12, 30), EvalTransform(32))
    found = FeatureMapping("classes").select(labelled, target, backbone, cache=tmp_path)
    assert set(found.ranking[:4].tolist()) == {0, 1, 2, 3}
    assert found.unit_names == labelled.classes
    assert found.votes[:4].tolist() == [10, 10, 10, 10]


def test_the_second_target_pays_for_its_vote_alone(planted, coloured, tmp_path, monkeypatch):
    source, target, backbone, _ = planted
    first = FeatureMapping(num_clusters=12).select(source, target, backbone, cache=tmp_path)
    monkeypatch.setattr("tlprune.selection.kmeans.fit_clusters", None)
    monkeypatch.setattr(type(source.images), "__getitem__", None)
    monkeypatch.setattr(
        source, "__class__", type("Unread", (type(source),), {"__getitems__": None, "__getitem__": None})
    )
    other = TransformedDataset(coloured(2, 10, seed=4), EvalTransform(32))
    again = FeatureMapping(num_clusters=12).select(source, other, backbone, cache=tmp_path)
    assert torch.equal(again.unit_of_sample, first.unit_of_sample)
    assert again.votes.sum() == 20


def test_a_whole_classifier_will_do_and_its_head_does_not_matter(planted, tmp_path):
    source, target, _, _ = planted
    torch.manual_seed(0)
    backbone = create_backbone("resnet8_w8")
    digests = set()
    for outputs in (3, 7):
        classifier = Classifier(backbone, outputs)
        digests.add(FeatureMapping(num_clusters=4).select(source, target, classifier, cache=tmp_path).digest)
    assert len(digests) == 1


def test_number_of_clusters_is_suggested(planted, tmp_path):
    source, target, backbone, _ = planted
    assert FeatureMapping().select(source, target, backbone, cache=tmp_path).num_units == 19  # of 360 images


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_clusters": 0}, "`num_clusters` must be at least 1, got 0"),
        ({"num_clusters": 3, "units": "classes"}, "goes with `units: clusters`"),
        ({"units": "class"}, "must be 'clusters' or 'classes', got 'class'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        FeatureMapping(**options)


def test_classes_of_a_source_without_labels_are_refused(planted, tmp_path):
    source, target, backbone, _ = planted
    with pytest.raises(InputError, match="FeatureMapping needs a labelled source"):
        FeatureMapping("classes").select(source, target, backbone, cache=tmp_path)


def test_centred_targets_vote_by_what_tells_their_images_apart(points, tmp_path):
    corners = torch.tensor([[-4.0, 0.0], [4.0, 0.0], [0.0, -4.0], [0.0, 4.0]])
    around = torch.tensor([[0.5, 0.5], [0.5, -0.5], [-0.5, 0.5], [-0.5, -0.5]])
    source = (corners[:, None] + around).flatten(0, 1)
    spread = torch.tensor([[-2.0, 0.0], [2.0, 0.0]]).repeat(4, 1)
    found = {}
    for name, offset in (("near", 0.0), ("far", 64.0)):
        target = points(spread + torch.tensor([offset, 8.0]), digest=f"target {name}")
        for center in (False, True):
            selector = FeatureMapping(num_clusters=4, center=center)
            seen = points(source, digest="source")
            found[name, center] = selector.select(seen, target, nn.Flatten(), cache=tmp_path / "cache")
    units = found["far", True].unit_of_sample[::4].long()  # of left, right, below, above
    assert found["far", False].votes[units].tolist() == [0, 8, 0, 0]
    for name in ("near", "far"):
        assert found[name, True].votes[units].tolist() == [4, 4, 0, 0]
    assert found["far", True].digest != found["far", False].digest
