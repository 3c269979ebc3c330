"""Catalogue of the paper's downstream sets: sizes, files and folders by name."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tlprune.errors import InputError

__all__ = ["TARGET_SETS", "Sizes", "TargetSet"]


class Sizes(NamedTuple):
    """Number of images in each part; ``val`` is None if a split has no validation images."""

    train: int
    val: int | None
    test: int


@dataclass(frozen=True)
class TargetSet:
    """A named target set on the user's disk.

    Args:
        name: Name of the set in tlprune.
        title: Name of the set by its authors.
        num_classes: Number of classes.
        official_sizes: Sizes of the official split.
        files: Files of the official split, relative to the folder of the set.
        images: Folder that the paths of CoOp are relative to, itself relative to the folder of the set.
        marker: File or folder that identifies the folder of the set.
        home_page: URL of the authors' page.
        terms: Licence, as far as the authors state one.
        tree: Layout of the folder, as lines of text.
        folders: Other folder names beside ``name``: those of CoOp, of torchvision and of the archive.
        coop_file: Split file of CoOp, which is used if it exists in the folder of the set.
        coop_sizes: Sizes of the split of CoOp.
        image_size: Default height and width in pixels of images for a model. CIFAR images stay at 32; the paper probes
            them at 160.
        remark: Advice on obtaining the set.
        download_is_dead: Whether torchvision once offered a download that no longer works.
    """

    name: str
    title: str
    num_classes: int
    official_sizes: Sizes
    files: tuple[str, ...]
    images: str
    marker: str
    home_page: str
    terms: str
    tree: tuple[str, ...]
    folders: tuple[str, ...] = ()
    coop_file: str | None = None
    coop_sizes: Sizes | None = None
    image_size: int = 224
    remark: str = ""
    download_is_dead: bool = False

    def home(self, folder: Path) -> Path:
        """Returns the folder of the set, which may be one level deeper, as in torchvision.

        Args:
            folder: Folder given by the user, or a folder with a name of the set.

        Raises:
            InputError: The folder, the marker or a split file is missing.
        """
        help_ = f"see 'tlprune datasets {self.name}'"
        if not folder.is_dir():
            what = "a file, not a folder" if folder.exists() else "no such folder"
            raise InputError(f"{self.name}: {folder}: {what}")
        inside = [folder, *(folder / name for name in self.folders)]
        home = next((candidate for candidate in inside if (candidate / self.marker).exists()), None)
        if home is None:
            raise InputError(f"{self.name}: no {self.marker!r} in {folder} ({help_})")
        missing = [name for name in self.files if not (home / name).is_file()]
        if missing and not (self.coop_file and (home / self.coop_file).is_file()):
            either = f"neither {self.coop_file!r} nor" if self.coop_file else "no"
            raise InputError(f"{self.name}: {either} {missing[0]!r} in {home} ({help_})")
        return home


_GONE = "torchvision can no longer download it: get it elsewhere"

_ALL = (
    TargetSet(
        name="oxford_pets",
        title="Oxford-IIIT Pet",
        num_classes=37,
        official_sizes=Sizes(3680, None, 3669),
        files=("annotations/trainval.txt", "annotations/test.txt"),
        images="images",
        marker="images",
        home_page="https://www.robots.ox.ac.uk/~vgg/data/pets/",
        terms="CC BY-SA 4.0; the photographs belong to their owners",
        tree=("images/Abyssinian_1.jpg ...", "annotations/trainval.txt, test.txt"),
        folders=("oxford-iiit-pet",),
        coop_file="split_zhou_OxfordPets.json",
        coop_sizes=Sizes(2944, 736, 3669),
    ),
    TargetSet(
        name="sun397",
        title="SUN397",
        num_classes=397,
        official_sizes=Sizes(19850, None, 19850),
        files=("SUN397/ClassName.txt", "Training_01.txt", "Testing_01.txt"),
        images="SUN397",
        marker="SUN397",
        home_page="https://vision.princeton.edu/projects/2010/SUN/",
        terms="see the home page; the photographs belong to their owners",
        tree=(
            "SUN397/ClassName.txt",
            "SUN397/a/abbey/sun_aaalbzqrimafwbiv.jpg ...",
            "Training_01.txt, Testing_01.txt (from Partitions.zip)",
        ),
        coop_file="split_zhou_SUN397.json",
        coop_sizes=Sizes(15880, 3970, 19850),
        remark=_GONE,
        download_is_dead=True,
    ),
    TargetSet(
        name="stanford_cars",
        title="Stanford Cars",
        num_classes=196,
        official_sizes=Sizes(8144, None, 8041),
        files=("devkit/cars_meta.mat", "devkit/cars_train_annos.mat", "cars_test_annos_withlabels.mat"),
        images=".",
        marker="cars_train",
        home_page="https://ai.stanford.edu/~jkrause/cars/car_dataset.html",
        terms="for research; the photographs belong to their owners",
        tree=(
            "cars_train/00001.jpg ...",
            "cars_test/00001.jpg ...",
            "devkit/cars_meta.mat, cars_train_annos.mat",
            "cars_test_annos_withlabels.mat",
        ),
        coop_file="split_zhou_StanfordCars.json",
        coop_sizes=Sizes(6509, 1635, 8041),
        remark=_GONE,
        download_is_dead=True,
    ),
    TargetSet(
        name="flowers102",
        title="Oxford 102 Flower",
        num_classes=102,
        official_sizes=Sizes(1020, 1020, 6149),
        files=("setid.mat", "imagelabels.mat"),
        images="jpg",
        marker="jpg",
        home_page="https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
        terms="see the home page",
        tree=("jpg/image_00001.jpg ...", "setid.mat, imagelabels.mat"),
        folders=("oxford_flowers", "flowers-102"),
        coop_file="split_zhou_OxfordFlowers.json",
        coop_sizes=Sizes(4093, 1633, 2463),
    ),
    TargetSet(
        name="dtd",
        title="Describable Textures",
        num_classes=47,
        official_sizes=Sizes(1880, 1880, 1880),
        files=("labels/train1.txt", "labels/val1.txt", "labels/test1.txt"),
        images="images",
        marker="images",
        home_page="https://www.robots.ox.ac.uk/~vgg/data/dtd/",
        terms="for research",
        tree=("images/banded/banded_0002.jpg ...", "labels/train1.txt, val1.txt, test1.txt"),
        folders=("dtd",),
        coop_file="split_zhou_DescribableTextures.json",
        coop_sizes=Sizes(2820, 1128, 1692),
    ),
    TargetSet(
        name="ucf101",
        title="UCF101 by the middle frame of each video",
        num_classes=101,
        official_sizes=Sizes(9537, None, 3783),
        files=("ucfTrainTestlist/classInd.txt", "ucfTrainTestlist/trainlist01.txt", "ucfTrainTestlist/testlist01.txt"),
        images="UCF-101-midframes",
        marker="UCF-101-midframes",
        home_page="https://www.crcv.ucf.edu/data/UCF101.php",
        terms="see the home page",
        tree=(
            "UCF-101-midframes/Apply_Eye_Makeup/v_ApplyEyeMakeup_g01_c01.jpg ...",
            "ucfTrainTestlist/classInd.txt, trainlist01.txt, testlist01.txt",
        ),
        coop_file="split_zhou_UCF101.json",
        coop_sizes=Sizes(7639, 1898, 3783),
        remark="videos: CoOp's page links the frames, or use 'tlprune frames'",
    ),
    TargetSet(
        name="food101",
        title="Food-101",
        num_classes=101,
        official_sizes=Sizes(75750, None, 25250),
        files=("meta/classes.txt", "meta/train.json", "meta/test.json"),
        images="images",
        marker="images",
        home_page="https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
        terms="scientific fair use; the photographs belong to their owners",
        tree=("images/apple_pie/134.jpg ...", "meta/classes.txt, train.json, test.json"),
        folders=("food-101",),
        coop_file="split_zhou_Food101.json",
        coop_sizes=Sizes(50500, 20200, 30300),
    ),
    TargetSet(
        name="cifar10",
        title="CIFAR-10",
        num_classes=10,
        official_sizes=Sizes(50000, None, 10000),
        files=(*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"),
        images=".",
        marker="batches.meta",
        home_page="https://www.cs.toronto.edu/~kriz/cifar.html",
        terms="see the home page",
        tree=("data_batch_1 ... data_batch_5", "test_batch", "batches.meta"),
        folders=("cifar-10-batches-py",),
        image_size=32,
        remark="the version for Python; the paper probes it at image_size: 160",
    ),
    TargetSet(
        name="cifar100",
        title="CIFAR-100",
        num_classes=100,
        official_sizes=Sizes(50000, None, 10000),
        files=("train", "test", "meta"),
        images=".",
        marker="meta",
        home_page="https://www.cs.toronto.edu/~kriz/cifar.html",
        terms="see the home page",
        tree=("train, test, meta",),
        folders=("cifar-100-python",),
        image_size=32,
        remark="the version for Python; the paper probes it at image_size: 160",
    ),
    TargetSet(
        name="waterbirds",
        title="Waterbirds",
        num_classes=2,
        official_sizes=Sizes(4795, 1199, 5794),
        files=("metadata.csv",),
        images=".",
        marker="metadata.csv",
        home_page="https://github.com/kohpangwei/group_DRO",
        terms="made of CUB-200-2011 and Places: see both",
        tree=("metadata.csv", "001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg ..."),
        folders=("waterbird_complete95_forest2water2",),
        remark="its archive is called waterbird_complete95_forest2water2.tar.gz",
    ),
)

TARGET_SETS: dict[str, TargetSet] = {entry.name: entry for entry in _ALL}
"""Target sets by name. Sizes of CoOp are those of its split files (Zhou et al., 2022)."""
