"""A small training problem that the tests of step, hooks and runner share."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from dlnotes.optim import SGD
from dlnotes.runner import Runner
from dlnotes.step import TrainStep


def make_data(samples=22, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, 3, generator=generator)
    return TensorDataset(x, (x.sum(1) > 0).long())


def make_model(dropout=0.2):
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 2))


def make_step(model=None, *, lr=0.1, schedule=True, **options):
    model = make_model() if model is None else model
    optimizer = SGD(model.parameters(), lr=lr, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20) if schedule else None
    return TrainStep(model, nn.functional.cross_entropy, optimizer, scheduler=scheduler, **options)


def accuracy(output, target):
    return (output.argmax(1) == target).float().mean()


def make_runner(hooks=(), *, seed=0, generator=False, workers=0, val_every=None, **options):
    """A run with shuffling, dropout, batch norm, a schedule, validation, and a last batch that is smaller."""
    torch.manual_seed(seed)
    own = torch.Generator().manual_seed(5) if generator else None
    train = DataLoader(make_data(), batch_size=4, shuffle=True, generator=own, num_workers=workers)
    validation = DataLoader(make_data(10, seed=1), batch_size=4)
    metrics = {"accuracy": accuracy}
    return Runner(make_step(**options), train, validation, metrics=metrics, hooks=hooks, val_every=val_every)
