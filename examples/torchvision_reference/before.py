"""Training without Lightning, in the manner of torchvision's reference scripts for classification."""

import argparse
import os
import time

import torch
import torchvision
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler
from torchvision import transforms
from torchvision.transforms import InterpolationMode


def train_one_epoch(model, criterion, optimizer, data_loader, device, epoch, args):
    model.train()
    for step, (image, target) in enumerate(data_loader):
        image, target = image.to(device), target.to(device)
        loss = criterion(model(image), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % args.print_freq == 0:
            print(f"Epoch: [{epoch}]  [{step}/{len(data_loader)}]  loss: {loss.item():.4f}")


@torch.inference_mode()
def evaluate(model, criterion, data_loader, device):
    model.eval()
    total_loss, correct, count = 0.0, 0, 0
    for image, target in data_loader:
        image, target = image.to(device), target.to(device)
        output = model(image)
        total_loss += criterion(output, target).item() * len(target)
        correct += (output.argmax(1) == target).sum().item()
        count += len(target)
    print(f"Test:  {count} images  Acc@1 {100 * correct / count:.2f}  loss {total_loss / count:.4f}")
    return 100 * correct / count


def load_data(traindir, valdir, args):
    normalize = transforms.Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    interpolation = InterpolationMode(args.interpolation)

    print("Loading training data")
    dataset = torchvision.datasets.ImageFolder(
        traindir,
        transforms.Compose(
            [
                transforms.RandomResizedCrop(args.train_crop_size, interpolation=interpolation),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                normalize,
            ]
        ),
    )
    print("Loading validation data")
    dataset_test = torchvision.datasets.ImageFolder(
        valdir,
        transforms.Compose(
            [
                transforms.Resize(args.val_resize_size, interpolation=interpolation),
                transforms.CenterCrop(args.val_crop_size),
                transforms.ToTensor(),
                normalize,
            ]
        ),
    )

    print("Creating data loaders")
    return dataset, dataset_test, RandomSampler(dataset), SequentialSampler(dataset_test)


def main(args):
    os.makedirs(args.output_dir, exist_ok=True)
    device = torch.device(args.device)
    torch.manual_seed(args.seed)

    traindir = os.path.join(args.data_path, "train")
    valdir = os.path.join(args.data_path, "val")
    dataset, dataset_test, train_sampler, test_sampler = load_data(traindir, valdir, args)
    num_classes = len(dataset.classes)
    options = {"batch_size": args.batch_size, "num_workers": args.workers, "pin_memory": device.type == "cuda"}
    data_loader = DataLoader(dataset, sampler=train_sampler, **options)
    data_loader_test = DataLoader(dataset_test, sampler=test_sampler, **options)

    print(f"Creating model for {len(dataset)} images of {num_classes} classes")
    model = torchvision.models.get_model(args.model, num_classes=num_classes).to(device)
    criterion = nn.CrossEntropyLoss(label_smoothing=args.label_smoothing)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=args.weight_decay)
    lr_scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=args.lr_step_size, gamma=0.1)

    start_time = time.time()
    for epoch in range(args.epochs):
        train_one_epoch(model, criterion, optimizer, data_loader, device, epoch, args)
        lr_scheduler.step()
        evaluate(model, criterion, data_loader_test, device)
        checkpoint = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "lr_scheduler": lr_scheduler.state_dict(),
            "epoch": epoch,
            "args": args,
        }
        torch.save(checkpoint, os.path.join(args.output_dir, f"model_{epoch}.pth"))
        torch.save(checkpoint, os.path.join(args.output_dir, "checkpoint.pth"))
    print(f"Training time {time.time() - start_time:.0f} s")


def get_args_parser():
    parser = argparse.ArgumentParser(description="PyTorch Classification Training")
    parser.add_argument("--data-path", default="data/catalogue", type=str)
    parser.add_argument("--model", default="resnet18", type=str)
    parser.add_argument("--device", default="cuda", type=str)
    parser.add_argument("-b", "--batch-size", default=32, type=int)
    parser.add_argument("--epochs", default=90, type=int)
    parser.add_argument("-j", "--workers", default=16, type=int)
    parser.add_argument("--lr", default=0.1, type=float)
    parser.add_argument("--wd", "--weight-decay", default=1e-4, type=float, dest="weight_decay")
    parser.add_argument("--label-smoothing", default=0.0, type=float)
    parser.add_argument("--lr-step-size", default=30, type=int)
    parser.add_argument("--print-freq", default=10, type=int)
    parser.add_argument("--output-dir", default="runs/reference", type=str)
    parser.add_argument("--interpolation", default="bilinear", type=str)
    parser.add_argument("--val-resize-size", default=256, type=int)
    parser.add_argument("--val-crop-size", default=224, type=int)
    parser.add_argument("--train-crop-size", default=224, type=int)
    parser.add_argument("--seed", default=0, type=int)
    return parser


if __name__ == "__main__":
    main(get_args_parser().parse_args())
