"""Makes CIFAR-100's twenty superclasses, the targets of configs/experiment/real_superclasses.yaml, as class folders.

    python benchmarks/make_superclasses.py /data/cifar100 /data/superclasses

The first folder is what torchvision.datasets.CIFAR100 downloads into. Each superclass gets a folder with ``train``,
``val`` and ``test`` below, and in these 20, 20 and 180 images of each of its five classes, drawn from CIFAR-100's
training images. They are other images than those of docs/results.md, of the same classes.
"""

import argparse
from pathlib import Path
from random import Random

from torchvision.datasets import CIFAR100

SUPERCLASSES = {  # Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, table 1
    "aquatic_mammals": ("beaver", "dolphin", "otter", "seal", "whale"),
    "fish": ("aquarium_fish", "flatfish", "ray", "shark", "trout"),
    "flowers": ("orchid", "poppy", "rose", "sunflower", "tulip"),
    "food_containers": ("bottle", "bowl", "can", "cup", "plate"),
    "fruit_and_vegetables": ("apple", "mushroom", "orange", "pear", "sweet_pepper"),
    "household_electrical_devices": ("clock", "keyboard", "lamp", "telephone", "television"),
    "household_furniture": ("bed", "chair", "couch", "table", "wardrobe"),
    "insects": ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
    "large_carnivores": ("bear", "leopard", "lion", "tiger", "wolf"),
    "large_man-made_outdoor_things": ("bridge", "castle", "house", "road", "skyscraper"),
    "large_natural_outdoor_scenes": ("cloud", "forest", "mountain", "plain", "sea"),
    "large_omnivores_and_herbivores": ("camel", "cattle", "chimpanzee", "elephant", "kangaroo"),
    "medium_mammals": ("fox", "porcupine", "possum", "raccoon", "skunk"),
    "non-insect_invertebrates": ("crab", "lobster", "snail", "spider", "worm"),
    "people": ("baby", "boy", "girl", "man", "woman"),
    "reptiles": ("crocodile", "dinosaur", "lizard", "snake", "turtle"),
    "small_mammals": ("hamster", "mouse", "rabbit", "shrew", "squirrel"),
    "trees": ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
    "vehicles_1": ("bicycle", "bus", "motorcycle", "pickup_truck", "train"),
    "vehicles_2": ("lawn_mower", "rocket", "streetcar", "tank", "tractor"),
}
PARTS = {"train": 20, "val": 20, "test": 180}


def write(images: CIFAR100, folder: Path) -> None:
    """Writes all superclasses as PNG files; which images they get does not change from call to call."""
    for name, classes in SUPERCLASSES.items():
        for one in classes:
            label = images.class_to_idx[one]
            drawn = [place for place, target in enumerate(images.targets) if target == label]
            Random(f"{name}/{one}").shuffle(drawn)  # noqa: S311 - no secret
            for part, count in PARTS.items():
                where = folder / name / part / one
                where.mkdir(parents=True, exist_ok=True)
                for place in drawn[:count]:
                    images[place][0].save(where / f"{place:05}.png")
                drawn = drawn[count:]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cifar100", type=Path, help="folder that torchvision.datasets.CIFAR100 reads")
    parser.add_argument("output", type=Path, help="folder to write")
    arguments = parser.parse_args()
    write(CIFAR100(arguments.cifar100, train=True), arguments.output)
