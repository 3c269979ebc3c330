"""Loaders over a source: which images there are, which are held out, and how they are loaded."""

from collections.abc import Sequence
from typing import Any, Literal, cast

from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.utils.data import DataLoader

from tlprune.data.adapters import as_images
from tlprune.data.class_names import refuse_class_names
from tlprune.data.damaged_images import known_path
from tlprune.data.datasets import ImageSet
from tlprune.data.feature_files import refuse_features
from tlprune.data.opening import Source, usable_images, usual_size
from tlprune.data.own_transform import ImageTransform, name_of
from tlprune.data.packed import SHORT_SIDE, Packing
from tlprune.data.sources import BUILT_IN_SOURCE, check_source, open_source, source_classes
from tlprune.data.splits import stratified_holdout
from tlprune.data.synthetic import synthetic_source
from tlprune.data.transformed import Batch, TransformedDataset
from tlprune.data.transforms import Augment, TwoViews
from tlprune.data.two_views import RECIPES
from tlprune.datamodules.image_transforms import ONE_VIEW, SourceTransforms, check_transforms
from tlprune.datamodules.packing import check_packing, in_memory, pack
from tlprune.datamodules.resumable import ResumableDataModule
from tlprune.distributed import broadcast_from_rank0
from tlprune.errors import InputError, require_within
from tlprune.selection_inputs import as_list
from tlprune.storage.cache import cache_root, forget

__all__ = ["SourceDataModule"]


class SourceDataModule(ResumableDataModule):
    """Loaders over all of a source. Batches are images ``[B, 3, S, S]`` float32, normalised, and labels ``[B]`` int64.

    Args:
        source: ``drawn`` (the built-in source), a folder of class folders or of images without labels, a folder with
            either in ``train`` and perhaps ``val``, ``linked:FOLDER`` to follow links in these, ``unlabelled:FOLDER``
            for all images at any depth, a list file (``.csv``, ``.tsv``, ``.txt``), ``torchvision:NAME:FOLDER``,
            ``huggingface:NAME``, a set of images, or any torch Dataset of images and labels.
        image_size: Height and width in pixels of training images; None is the module's own, else 224 (built-in: 32).
        eval_size: Height and width in pixels of images that validate; None is ``image_size``.
        augment: What changes from epoch to epoch; None is ``shift`` for the built-in source, else ``crop_flip``.
            ``randaugment``, ``trivialaugment`` and ``autoaugment`` are ``crop_flip`` and that policy. With
            ``simclr``, ``simclr_small``, ``simclr_colour``, ``moco`` or ``vicreg`` training batches hold two views of
            each image, ``[view, other view]`` in place of images, for any module that learns from these.
        transform: Any callable in place of ``augment``, such as a module of ``torchvision.transforms.v2``. It is given
            each training image as it is decoded, ``[3, H, W]`` uint8, and gives ``[3, S, S]``, with ``S`` the
            ``image_size``, or a list of such views. uint8 is normalised as the module's weights expect; floats count
            as normalised.
        eval_transform: The same for validation images, of ``eval_size``. Selections never see either.
        batch_size: Images in a batch, at least 1.
        num_workers: Processes that load images.
        on_bad_image: What happens to source images that cannot be decoded: ``error`` stops at the first and names it;
            ``skip`` decodes all of the source once, before anything else, and leaves them out, unless they are more
            than one in a hundred.
        in_memory: Whether images are decoded once and held in memory; for images of one size that fit.
        image_cache: How training images are decoded once and kept on disk, with 256 pixels for the shorter side where
            that has more: ``raw256``, pixels, some 260 kB an image; ``jpeg256``, JPEGs, some 30 kB. The space that this
            takes is printed before it is written.
        val_share: Share of the source held out for validation where it has no ``val``, in [0, 1).
        seed: Seed of the choice of held-out images.
        cache: The cache folder; None for the user's.
        verify_content: Whether cached work counts only where every byte of every image is the same, which takes as long
            as reading all files; else the same path, size and time of change are enough.

    Attributes:
        skipped: Names of source images that are left out, after :meth:`setup`: they cannot be decoded.
        source_images: The whole source as it is listed, after :meth:`setup`.

    Raises:
        InputError: An argument is out of range, or the source is not there.
    """

    def __init__(
        self,
        source: str | ImageSet = BUILT_IN_SOURCE,
        image_size: int | None = None,
        eval_size: int | None = None,
        augment: Augment | TwoViews | None = None,
        transform: ImageTransform | None = None,
        eval_transform: ImageTransform | None = None,
        batch_size: int = 128,
        num_workers: int = 0,
        on_bad_image: Literal["error", "skip"] = "error",
        in_memory: bool = False,
        image_cache: Packing | None = None,
        val_share: float = 0.1,
        seed: int = 0,
        cache: str | None = None,
        verify_content: bool = False,
    ) -> None:
        super().__init__()
        (source,) = as_list([source])
        require_within("batch_size", batch_size, 1)
        require_within("num_workers", num_workers, 0)
        if not 0 <= val_share < 1:
            raise InputError(f"`val_share` must be in [0, 1), got {val_share}")
        if on_bad_image not in ("error", "skip"):
            raise InputError(f"`on_bad_image` must be 'error' or 'skip', got {on_bad_image!r}")
        refuse_features(source)
        refuse_class_names(source, "trained on")
        if isinstance(source, str):
            check_source(source)
        check_packing(image_cache, in_memory)
        check_transforms(augment, [*ONE_VIEW, *RECIPES], transform, eval_transform)
        self.source: Source = source
        usual = "none" if transform is not None else "shift" if source == BUILT_IN_SOURCE else "crop_flip"
        self.augment: Augment | TwoViews = augment or cast(Augment, usual)
        self.transform, self.eval_transform = transform, eval_transform
        sizes = image_size, eval_size, usual_size(source)
        self.transforms = SourceTransforms(*sizes, self.augment, transform, eval_transform)
        self.batch_size, self.num_workers = batch_size, num_workers
        self.on_bad_image, self.skipped = on_bad_image, ()
        self.in_memory, self.image_cache = in_memory, image_cache
        self.val_share, self.seed = val_share, seed
        self.cache, self.verify_content = cache, verify_content
        self.source_images: ImageSet | None = None
        self._fresh = False
        self._listed: tuple[ImageSet, ImageSet | None] | None = None
        self._opened: tuple[ImageSet, Tensor, Tensor, ImageSet | None] | None = None
        self._sets: dict[str, TransformedDataset] = {}

    skipped: tuple[str, ...]

    @property
    def images_before_pruning(self) -> int:
        """Training images of the whole source, held-out ones left out."""
        return len(self._split()[1])

    @property
    def transformed_source(self) -> TransformedDataset:
        """The whole source as listed, through the usual evaluation that the Trainer's module expects."""
        return TransformedDataset(self._split()[0], self.transforms.usual_eval(self._expected()))

    @property
    def image_size(self) -> int:
        """Height and width in pixels of training images."""
        return self.transforms.train_size.expected(self._expected())

    @property
    def eval_image_size(self) -> int:
        """Height and width in pixels of images that validate, which exported weights and checkpoints record."""
        return self.transforms.eval_size.expected(self._expected())

    def check_inputs(self) -> None:
        """Opens the source and changes nothing: wrong input is reported before anything is written.

        Raises:
            InputError: As :meth:`setup`.
        """
        images = (self._list() if self.on_bad_image == "skip" else self._split())[0]
        self.transforms.check(images, self._expected())

    def prepare_data(self) -> None:
        """Makes the built-in source, if it is wanted and not there."""
        if self.source == BUILT_IN_SOURCE:
            synthetic_source(cache_root(self.cache))

    def start_over(self) -> None:
        """Removes from the cache what :meth:`setup` would take from there, but for the built-in source. For all ranks.

        Raises:
            InputError: As :meth:`setup`.
        """
        self._opened, self._fresh = None, True
        known = self._known_damage
        broadcast_from_rank0(lambda: forget(*known))

    @property
    def _known_damage(self) -> list[Any]:
        """Files of the cache that say which images cannot be decoded."""
        looked_at = filter(None, self._list() if self.on_bad_image == "skip" else ())
        return [known_path(images, cache_root(self.cache)) for images in looked_at]

    def _all_images(self) -> Sequence[ImageSet | None]:
        return self._list()

    def _number_of_classes(self) -> int:
        """Classes of the whole source; a folder's images are not listed for it."""
        if self._listed is None and isinstance(self.source, str):
            return len(source_classes(self.source, self.cache))
        return len(self._list()[0].classes)

    def _split(self) -> tuple[ImageSet, Tensor, Tensor, ImageSet | None]:
        """The source as listed; its training and held-out images (``[n]`` int64 each); its own validation set."""
        if self._opened is None:
            source, val = self._list()
            source, self.skipped = usable_images(source, self.on_bad_image, self.cache, self.num_workers)
            if val is not None:
                val, _ = usable_images(val, self.on_bad_image, self.cache, self.num_workers)
            count = 0 if val is not None else round(self.val_share * len(source))
            self._opened = source, *stratified_holdout(source.labels, count, self.seed), val
        return self._opened

    def _list(self) -> tuple[ImageSet, ImageSet | None]:
        """The source's images and its own validation images, before any are left out."""
        if self._listed is None:
            if isinstance(self.source, str):
                self._listed = open_source(self.source, self.cache)
            else:
                self._listed = as_images(self.source), None
        return self._listed

    def _load(self, train: ImageSet, val: ImageSet, new_labels: Tensor | None = None) -> None:
        """Opens what is trained and validated on; ``new_labels`` is ``[C]`` int64."""
        expected = self._expected()
        seen = {"train": self._at_hand(train), "val": self._decoded(val) if self.in_memory else val}
        self.transforms.check(seen["train"], expected)
        self._sets["train"] = TransformedDataset(seen["train"], self.transforms.train(expected), new_labels)
        self._sets["val"] = TransformedDataset(seen["val"], self.transforms.eval(expected), new_labels)

    def _at_hand(self, kept: ImageSet) -> ImageSet:
        """The same images, where the user wants them."""
        if self.image_cache is None or len(kept) == 0:
            return self._decoded(kept) if self.in_memory else kept
        if self.transform is not None:
            given = f"`transform` ({name_of(self.transform)}) is given images from image_cache: {self.image_cache}"
            rank_zero_info(f"{given}, where the shorter side has at most {SHORT_SIDE} pixels")
        return pack(kept, self.image_cache, cache_root(self.cache), self.num_workers, self.verify_content, self._fresh)

    def _decoded(self, images: ImageSet) -> ImageSet:
        return in_memory(images, self.verify_content)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled batches of training images; a resumed run goes on in the same order."""
        images = self._sets["train"].with_transform(self.transforms.train(self._expected()))
        return self._train_loader(images, self.batch_size, self.num_workers)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Batches of validation images, in order."""
        images = self._sets["val"].with_transform(self.transforms.eval(self._expected()))
        return self._in_order(images, self.batch_size, self.num_workers)

    def test_dataloader(self) -> DataLoader[Batch]:
        """The validation batches: a source has no test set of its own."""
        return self.val_dataloader()

    predict_dataloader = test_dataloader
