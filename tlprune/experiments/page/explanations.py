"""What methods do, in a sentence or two for those who have not read the paper."""

from tlprune.experiments.results import NONE

__all__ = ["WHAT_METHODS_DO"]

WHAT_METHODS_DO = {
    NONE: "keeps the whole source; every method is compared with it.",
    "label_mapping": (
        "Label Mapping. A small classifier trained on the source, the surrogate, looks at the target's training "
        "images. Each of them votes for its source class as the surrogate sees it, and the classes with the "
        "most votes are kept (Zhang et al., NeurIPS 2023)."
    ),
    "feature_mapping": (
        "Feature Mapping. The source is divided into clusters by the features of a small encoder, the surrogate. Each "
        "of the target's training images votes for its nearest cluster, and the clusters with the most "
        "votes are kept; no label of the source is needed (Zhang et al., NeurIPS 2023)."
    ),
    "nearest_images": (
        "Nearest Images. In rounds, each of the target's training images takes the source image that is most like it "
        "in the surrogate's features, until the budget is reached; no label is needed."
    ),
    "importance_resampling": (
        "Importance Resampling. Source images are drawn by chance, more often from classes or clusters that have more "
        "of the target's votes than of the source's images (after Xie et al., NeurIPS 2023)."
    ),
    "typical_images": (
        "Typical Images. More classes or clusters than would fit are kept, and of each its most typical images (after "
        "Joshi and Mirzasoleiman, ICML 2023)."
    ),
    "list": "keeps what a list names, in the order of the list.",
    "random": "keeps as much by chance: a method that does not beat it is not worth its cost.",
    "reverse": "keeps first what the votes would keep last: if votes mean anything, it does harm.",
    "moderate": "keeps images that are neither typical nor odd of their class (Xia et al., ICLR 2023); uses no target.",
    "el2n": "keeps the images on which the surrogate errs most (Paul et al., NeurIPS 2021); uses no target.",
    "grand": "keeps the images with the longest gradients (Paul et al., NeurIPS 2021); uses no target.",
    "forgetting": "keeps what was learned and lost again most often (Toneva et al., ICLR 2019); uses no target.",
}
