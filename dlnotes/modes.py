r"""Training and evaluation mode, module by module: what is frozen stays frozen."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager

from torch import nn


def freeze(module: nn.Module) -> None:
    r"""Keep ``module`` as it is: no gradients, and evaluation mode, in which batch norm's statistics stand still.

    Call it before the run. :class:`~dlnotes.runner.Runner` keeps the mode of every part of a model, so that a frozen
    part stays frozen through training and validation. Give the optimizer the other parameters, or all: those
    without a gradient are left out. ``module.requires_grad_(True).train()`` undoes it.

    A call of ``model.train()`` afterwards reaches into the frozen part too: its weights still get no gradient, but it
    is in training mode again, its statistics move and its dropout drops. So freeze last, or once more.

    >>> model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2))
    >>> freeze(model[0])
    >>> model.training, model[0].training, model[0].weight.requires_grad
    (True, False, False)
    >>> _ = model.train()
    >>> model[0].training, model[0].weight.requires_grad
    (True, False)
    """
    module.requires_grad_(False).eval()


def frozen(model: nn.Module) -> list[str]:
    r"""The names of the parts that are in evaluation mode.

    >>> model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    >>> _ = model[1].eval()
    >>> frozen(model)
    ['1']
    """
    return [name for name, module in model.named_modules() if not module.training]


def train_but(model: nn.Module, names: Iterable[str]) -> list[str]:
    r"""Put ``model`` into training mode, but for its frozen parts; return the names of those.

    They are the parts found in evaluation mode; if that is the whole model, they are those with these ``names``.

    >>> model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).eval()
    >>> train_but(model, ["1"])
    ['1']
    >>> train_but(model, [])
    ['1']
    """
    if not model.training:
        names = set(names)
        for name, module in model.train().named_modules():
            if name in names:
                module.training = False  # eval() would reach into its parts, which are named themselves
    return frozen(model)


def fixed(model: nn.Module) -> list[str]:
    r"""The names of the parameters that get no gradient.

    >>> layer = nn.Linear(1, 1)
    >>> _ = layer.bias.requires_grad_(False)
    >>> fixed(layer)
    ['bias']
    """
    return [name for name, parameter in model.named_parameters() if not parameter.requires_grad]


def fix(model: nn.Module, names: Iterable[str]) -> None:
    r"""Let the parameters with these names get no gradient, and all others one.

    >>> layer = nn.Linear(1, 1)
    >>> fix(layer, ["bias"])
    >>> layer.weight.requires_grad, layer.bias.requires_grad
    (True, False)
    """
    names = set(names)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad == (name in names):
            parameter.requires_grad_(name not in names)


@contextmanager
def kept(model: nn.Module) -> Generator[None]:
    r"""Whatever is done to modes inside a ``with``, after it every part has the mode it had, also after an error.

    >>> model = nn.Dropout()
    >>> with kept(model):
    ...     _ = model.eval()
    >>> model.training
    True
    """
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def evaluating(model: nn.Module) -> Generator[None]:
    r"""Evaluation mode inside a ``with``; after it every part has the mode it had, as with :func:`kept`.

    >>> model = nn.Sequential(nn.Linear(4, 4), nn.Dropout())
    >>> _ = model[0].eval()
    >>> with evaluating(model):
    ...     print(model.training)
    False
    >>> model.training, model[0].training
    (True, False)
    """
    with kept(model):
        model.eval()
        yield
