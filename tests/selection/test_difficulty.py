import pytest
import torch
from torch import nn

from tlprune.data.transformed import TransformedDataset
from tlprune.data.transforms import EvalTransform
from tlprune.errors import InputError
from tlprune.models.backbones import Classifier, create_backbone
from tlprune.selection.difficulty import EL2N, GraNd


@pytest.fixture
def source(coloured):
    return TransformedDataset(coloured(3, 23), EvalTransform(32))


@pytest.fixture
def surrogates():
    """Networks with running statistics that differ from those of any batch."""

    def make(seed):
        torch.manual_seed(seed)
        classifier = Classifier(create_backbone("resnet8_w8"), 3)
        for _ in range(3):
            classifier(torch.randn(8, 3, 32, 32))
        return classifier

    return [make(seed) for seed in (0, 1, 2)]


def one_at_a_time(surrogates, source, score):
    """The mean over surrogates of each image's score, computed for itself in eval mode."""
    rows = []
    for classifier in surrogates:
        classifier.eval()
        rows.append([score(classifier, *source[index]) for index in range(len(source))])
    return torch.tensor(rows).double().mean(0)


def el2n(classifier, image, label):
    with torch.no_grad():
        error = classifier(image[None]).softmax(1)[0]
    error[label] -= 1
    return float(error.norm())


def grand(parameters):
    def score(classifier, image, label):
        classifier.zero_grad()
        nn.functional.cross_entropy(classifier(image[None]), torch.tensor([label])).backward()
        return float(torch.cat([one.grad.flatten() for one in parameters(classifier)]).norm())

    return score


CASES = [
    (EL2N(), el2n),
    (GraNd("all"), grand(lambda classifier: classifier.parameters())),
    (GraNd("head"), grand(lambda classifier: classifier.head.parameters())),
]


@pytest.mark.parametrize(("selector", "score"), CASES, ids=["el2n", "grand all", "grand head"])
def test_scores_equal_autograd_one_image_at_a_time(selector, score, source, surrogates):
    found = selector.select(source, surrogate=surrogates)
    expected = one_at_a_time(surrogates, source, score)
    torch.testing.assert_close(found.scores, expected, rtol=1e-4, atol=1e-5)
    assert found.ranking.tolist() == found.scores.sort(descending=True, stable=True).indices.tolist()
    assert found.unit_kind == "sample"


def test_networks_are_in_eval_mode_and_left_as_they_were(source, surrogates):
    statistics = surrogates[0].backbone.network.bn.running_mean.clone()
    surrogates[0].train()
    for selector in (EL2N(), GraNd("all")):
        selector.select(source, surrogate=surrogates[:1])
    assert surrogates[0].training
    assert torch.equal(surrogates[0].backbone.network.bn.running_mean, statistics)


def test_averaging_is_over_surrogates_and_one_will_do(source, surrogates):
    alone = [EL2N().select(source, surrogate=one).scores for one in surrogates]
    together = EL2N().select(source, surrogate=surrogates)
    torch.testing.assert_close(together.scores, torch.stack(alone).mean(0))
    assert together.config["surrogate_digest"] != EL2N().config(source, [], surrogates[0])["surrogate_digest"]


def test_classes_by_the_mean_of_their_images(source, surrogates):
    single = EL2N().select(source, surrogate=surrogates)
    by_class = EL2N("class").select(source, surrogate=surrogates)
    expected = torch.stack([single.scores[source.labels == label].mean() for label in range(3)])
    torch.testing.assert_close(by_class.scores, expected)
    assert by_class.unit_names == source.classes


def test_nan_names_the_samples(source, surrogates):
    with torch.no_grad():
        surrogates[1].head.bias[0] = float("nan")
    with pytest.raises(InputError, match="NaN or infinity for source images image 0, image 1"):
        EL2N().select(source, surrogate=surrogates)


def test_what_they_need_is_named(source, points):
    with pytest.raises(InputError, match="EL2N needs a surrogate"):
        EL2N().select(source)
    with pytest.raises(InputError, match="EL2N needs a labelled source"):
        EL2N().select(points(torch.zeros(3, 1)), surrogate=nn.Flatten())
    with pytest.raises(InputError, match="`layers` must be 'all' or 'head', got 'last'"):
        GraNd("last")
