"""Copies of test images in a source, found by thumbnails: cheap, without a network, and for a warning alone."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["ALIKE_SHARE", "NEARER_SHARE", "SAME_SHARE", "Copies", "find_copies"]

SAME_SHARE = 0.05
"""Difference of two thumbnails, as a share of the contrast of the test image, up to which they are the same."""

ALIKE_SHARE = 0.3
"""Difference, as a share of the contrast, up to which they are copies if every other source image is further away."""

NEARER_SHARE = 0.5
"""Largest difference to the nearest source image, as a share of that to the second nearest, of such a copy."""

_ROWS = 1024


@dataclass(frozen=True)
class Copies:
    """Nearest source image of each test image, by their thumbnails.

    A small difference alone does not make a copy: photographs of sky differ little, and so do handwritten ones. It is
    therefore taken as a share of the contrast of the test image, and compared with that to the second nearest image.

    Args:
        source: Int64 tensor ``[T]``, index of the nearest source image; -1 of a source without images.
        difference: Float64 tensor ``[T]``, root mean square difference to it, in [0, 1]; infinite without one.
        second: Float64 tensor ``[T]``, difference to the second nearest source image; infinite without one.
        contrast: Float64 tensor ``[T]``, standard deviation of the pixels of the test image, in [0, 1].
    """

    source: Tensor
    difference: Tensor
    second: Tensor
    contrast: Tensor

    @property
    def share(self) -> Tensor:
        """Difference as a share of the contrast, float64 ``[T]``; infinite for an image of one brightness."""
        return torch.where(self.contrast > 0, self.difference / self.contrast, torch.inf)

    @property
    def found(self) -> Tensor:
        """Test images that have a copy in the source, int64 ``[n]``, the most alike first."""
        share = self.share
        alone = self.difference <= NEARER_SHARE * self.second
        copied = (share <= SAME_SHARE) | ((share <= ALIKE_SHARE) & alone)
        order = share.sort(stable=True).indices
        return order[copied[order]]


def find_copies(test: Tensor, source: Iterable[tuple[range, Tensor]]) -> Copies:
    """Finds the two nearest source images of every test image, with one block of the source at a time as float32.

    An image of one brightness, as one that cannot be decoded, is no copy: many images are white or black by chance.

    Args:
        test: Thumbnails of the test images, uint8 ``[T, D]``.
        source: Blocks of thumbnails of the source, as image indices and uint8 ``[n, D]``.
    """
    apart = torch.full((len(test), 2), torch.inf, dtype=torch.float64)
    index = torch.full((len(test), 2), -1, dtype=torch.int64)
    for images, block in source:
        rows = block.float() / 255
        for start in range(0, len(test), _ROWS):
            some = slice(start, start + _ROWS)
            near, distance = _two_nearest(test[some].float() / 255, rows)
            both = torch.cat([apart[some], distance], 1)
            apart[some], order = both.topk(2, 1, largest=False)
            index[some] = torch.cat([index[some], near + images.start], 1).gather(1, order)
    apart /= test.shape[1] ** 0.5
    exact = test.double()  # whole numbers: rounding would give an image of one brightness a contrast
    contrast = (exact - exact.mean(1, keepdim=True)).square().mean(1).sqrt() / 255
    return Copies(index[:, 0], apart[:, 0], apart[:, 1], contrast)


def _two_nearest(test: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the rows nearest to each test image, int64 ``[t, k]``, and their Euclidean distances, float64 ``[t, k]``.

    ``k`` is 2, or 1 of a single row. Distances are not in order where rounding decides.
    """
    scores = torch.addmm(rows.square().sum(1) / 2, test, rows.T, alpha=-1)
    near = [scores.argmin(1)]
    if len(rows) > 1:
        near.append(scores.scatter_(1, near[0][:, None], torch.inf).argmin(1))
    distances = [(test.double() - rows[one].double()).norm(dim=1) for one in near]
    return torch.stack(near, 1), torch.stack(distances, 1)
