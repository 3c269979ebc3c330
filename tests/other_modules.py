"""DataModules as others write them."""

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2


class EuroSatLike(Dataset):
    """As a NonGeoDataset of torchgeo: dictionaries of floats from 0 to 255, ``transforms`` of a whole sample."""

    classes = ("Crop", "Forest", "Lake", "River")

    def __init__(self, each: int = 5, seed: int = 0, transforms=None):
        generator = torch.Generator().manual_seed(seed)
        self.labels_of_files = [label for label in range(4) for _ in range(each)]
        self.pixels = torch.randint(0, 256, (4 * each, 3, 16, 16), generator=generator)
        self.transforms = transforms

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, index):
        sample = {"image": self.pixels[index].float(), "label": torch.tensor(self.labels_of_files[index]).long()}
        return sample if self.transforms is None else self.transforms(sample)


class NonGeoLike(LightningDataModule):
    """As a NonGeoDataModule of torchgeo: ``setup(stage)``, dictionaries, augmentation after the transfer."""

    mean, std = torch.tensor(0.0), torch.tensor(255.0)

    def __init__(self, batch_size: int = 4, num_workers: int = 0, each: int = 5) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.batch_size, self.num_workers, self.each = batch_size, num_workers, each
        self.train_aug = v2.RandomHorizontalFlip()
        self.prepare_data_per_node = False
        self.seen: list[str] = []

    def setup(self, stage: str) -> None:
        if stage == "fit":
            self.train_dataset = EuroSatLike(self.each)
            self.val_dataset = EuroSatLike(2, seed=1)

    def train_dataloader(self):
        return DataLoader(self.train_dataset, self.batch_size, shuffle=True, num_workers=self.num_workers)

    def val_dataloader(self):
        return DataLoader(self.val_dataset, self.batch_size)

    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        self.seen.append("moved")
        return {name: value.to(device) for name, value in batch.items()}

    def on_after_batch_transfer(self, batch, dataloader_idx):
        training = self.trainer.training
        batch["image"] = (batch["image"] - self.mean) / self.std
        batch["image"] = self.train_aug(batch["image"]) if training else batch["image"]
        self.seen.append("augmented" if training else "plain")
        return batch

    def on_exception(self, exception):
        self.seen.append(type(exception).__name__)

    def state_dict(self):
        return {"seen": len(self.seen)}

    def load_state_dict(self, state_dict):
        self.loaded = state_dict

    def plot(self, sample):
        return f"plot of {int(sample['label'])}"


class Task(LightningModule):
    """A task on dictionaries that notes which labels and pixels it was given."""

    def __init__(self, num_classes: int = 2) -> None:
        super().__init__()
        self.head = nn.Linear(3, num_classes)
        self.given: list[tuple[int, int]] = []
        self.validated: list[int] = []

    def training_step(self, batch, batch_idx):
        self.given += [(self.current_epoch, label) for label in batch["label"].tolist()]
        assert 0 <= float(batch["image"].min()) <= float(batch["image"].max()) <= 1
        return nn.functional.cross_entropy(self.head(batch["image"].mean((2, 3))), batch["label"])

    def validation_step(self, batch, batch_idx):
        self.validated += batch["label"].tolist()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)
