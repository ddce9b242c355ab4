r"""Small data sets that need no download: scikit-learn's breast cancer, handwritten digits and two moons.

Every function returns a `Split`: a training part and a held-out part, drawn with a fixed seed so that each
class keeps its share, and standardised with numbers measured on the training part alone. Give ``val_fraction`` for a
third part, on which models are chosen: the test part then says how good the chosen one is, and is used once.
"""

import math
import os
import re
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Shaped
from sklearn.datasets import load_breast_cancer, load_digits, make_moons
from torch import Tensor


@dataclass(frozen=True)
class Split:
    r"""A data set in two parts or three, standardised: :math:`x_{ij} = (\text{raw}_{ij} - \mu_j) / s_j`.

    The mean :math:`\mu_j` and the standard deviation :math:`s_j` come from the training rows alone: the
    held-out rows stand for data not seen yet, so nothing may be learnt from them.

    Attributes:
        x_train: training inputs, shape (train, features).
        y_train: training labels, shape (train,).
        x_test: held-out inputs, shape (test, features).
        y_test: held-out labels, shape (test,).
        mean: :math:`\mu`, what was subtracted, shape (features,).
        std: :math:`s`, what was divided by, shape (features,); ``x_train * std + mean`` is the raw data.
        feature_names: one name a column.
        class_names: one name a class, the place in the tuple being the label.
        x_val: validation inputs, shape (val, features); no rows unless ``val_fraction`` was given.
        y_val: validation labels, shape (val,).

    >>> data = breast_cancer()
    >>> data.x_train.shape, data.y_test.shape, data.class_names
    (torch.Size([427, 30]), torch.Size([142]), ('benign', 'malignant'))
    >>> data = breast_cancer(val_fraction=0.15)
    >>> len(data.y_train), len(data.y_val), len(data.y_test)
    (341, 86, 142)
    """

    x_train: Float[Tensor, "train features"]
    y_train: Shaped[Tensor, " train"]
    x_test: Float[Tensor, "test features"]
    y_test: Shaped[Tensor, " test"]
    mean: Float[Tensor, " features"]
    std: Float[Tensor, " features"]
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]
    x_val: Float[Tensor, "val features"]
    y_val: Shaped[Tensor, " val"]

    def to(self, device: torch.device | str) -> "Split":
        r"""The same split with every tensor on ``device``.

        >>> moons().to("cpu").x_train.device
        device(type='cpu')
        """
        moved = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **moved)


def breast_cancer(
    *, test_fraction: float = 0.25, val_fraction: float = 0.0, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Split:
    r"""569 breast tumours, 30 measurements of their cell nuclei each; label 1 means malignant.

    The positive class is the one looked for. scikit-learn stores the labels the other way round (1 = benign).

    Args:
        test_fraction: share of each class that is held out.
        val_fraction: share of each class that is held out for validation; default 0, no such part. The test part is
            the same with and without it.
        seed: which rows are held out.
        dtype: type of inputs and of labels, the labels being 0 and 1 in a floating type as losses want them.

    Raises:
        ValueError: the fractions leave one part without a class or a column without spread, ``seed`` is no whole
            number from 0 to 2³² − 1, or ``dtype`` no floating type of 16, 32 or 64 bits.

    Source: Street, Wolberg and Mangasarian, *Nuclear feature extraction for breast tumor diagnosis* (1993).

    >>> data = breast_cancer()
    >>> data.x_train.shape, data.x_test.shape
    (torch.Size([427, 30]), torch.Size([142, 30]))
    >>> data.feature_names[0], data.class_names
    ('mean radius', ('benign', 'malignant'))
    """
    _check(test_fraction, val_fraction, seed, dtype)
    raw = cast(Any, load_breast_cancer())
    names = tuple(str(name) for name in raw.feature_names)
    y = torch.as_tensor(1 - raw.target).to(dtype)
    return _split(raw.data, y, names, ("benign", "malignant"), (test_fraction, val_fraction), seed, dtype)


def digits(
    *, test_fraction: float = 0.25, val_fraction: float = 0.0, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Split:
    r"""1797 handwritten digits of 8 × 8 pixels, flattened to 64 features; labels 0 to 9 as integers.

    All pixels share one mean and one standard deviation: some pixels at the rim are nearly constant, and
    dividing each by its own tiny spread would turn a speck into the loudest feature.
    ``x.view(-1, 1, 8, 8)`` gives images.

    Args:
        test_fraction: share of each class that is held out.
        val_fraction: share of each class that is held out for validation; default 0, no such part. The test part is
            the same with and without it.
        seed: which rows are held out.
        dtype: type of the inputs; the labels are ``torch.int64`` as cross-entropy wants them.

    Raises:
        ValueError: the fractions leave one part without a class or a column without spread, ``seed`` is no whole
            number from 0 to 2³² − 1, or ``dtype`` no floating type of 16, 32 or 64 bits.

    Source: Alpaydin and Kaynak, *Optical recognition of handwritten digits* (UCI, 1998), its test part.

    >>> data = digits()
    >>> data.x_train.shape, data.y_train.dtype
    (torch.Size([1347, 64]), torch.int64)
    """
    _check(test_fraction, val_fraction, seed, dtype)
    raw = cast(Any, load_digits())
    names = tuple(str(name) for name in raw.feature_names)
    classes, fractions = tuple(str(label) for label in range(10)), (test_fraction, val_fraction)
    return _split(raw.data, torch.as_tensor(raw.target), names, classes, fractions, seed, dtype, shared=True)


def moons(
    n: int = 400,
    *,
    noise: float = 0.2,
    test_fraction: float = 0.25,
    val_fraction: float = 0.0,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Split:
    r"""Two interleaving half circles in the plane: two classes that no straight line separates.

    Args:
        n: number of points, both classes together.
        noise: standard deviation of the Gaussian noise added to each raw coordinate.
        test_fraction: share of each class that is held out.
        val_fraction: share of each class that is held out for validation; default 0, no such part. The test part is
            the same with and without it.
        seed: draws the points and chooses which are held out.
        dtype: type of inputs and of labels, the labels being 0 and 1 in a floating type.

    Raises:
        ValueError: ``n`` is below 4 or not whole, ``noise`` below 0 or not finite, or another argument as for
            :func:`breast_cancer`.

    >>> data = moons(200)
    >>> data.x_train.shape, data.y_train.mean()
    (torch.Size([150, 2]), tensor(0.5000))
    """
    if not n >= 4 or n % 1 != 0:  # true for NaN and infinity too
        raise ValueError(f"n must be at least 4, two points a class, and whole, got {n}")
    if not 0 <= noise < math.inf:
        raise ValueError(f"noise must be at least 0 and finite, got {noise}")
    _check(test_fraction, val_fraction, seed, dtype)
    x, y = cast("tuple[Any, Any]", make_moons(int(n), noise=noise, random_state=seed))
    labels = torch.as_tensor(y).to(dtype)
    return _split(x, labels, ("x1", "x2"), ("upper moon", "lower moon"), (test_fraction, val_fraction), seed, dtype)


def _check(test_fraction: float, val_fraction: float, seed: int, dtype: torch.dtype) -> None:
    if not 0 < test_fraction < 1:  # true for NaN
        raise ValueError(f"test_fraction must leave every class a row in both parts, got {test_fraction}")
    if not 0 <= val_fraction < 1 - test_fraction:
        limit = f"at least 0 and leave a training part beside test_fraction {test_fraction}"
        raise ValueError(f"val_fraction must be {limit}, got {val_fraction}")
    if not 0 <= seed < 2**32 or seed % 1 != 0:
        raise ValueError(f"seed must be a whole number from 0 to 2**32 - 1, got {seed}")
    if dtype not in (torch.float64, torch.float32, torch.float16, torch.bfloat16):  # in 8 bits the values overflow
        raise ValueError(f"dtype must be a floating type of 16, 32 or 64 bits, got {dtype}")


def _split(
    raw: np.ndarray,
    y: Tensor,
    feature_names: tuple[str, ...],
    class_names: tuple[str, ...],
    fractions: tuple[float, float],
    seed: int,
    dtype: torch.dtype,
    *,
    shared: bool = False,
) -> Split:
    r"""Hold out these shares of each class, test and validation, standardise by the rest; ``shared``: columns alike."""
    x = torch.as_tensor(raw, dtype=torch.float64)  # statistics in float64, rounded once at the end
    generator = torch.Generator().manual_seed(seed)
    test_fraction, val_fraction = fractions
    train, test = _stratified(y, test_fraction, generator, "test_fraction")
    val = train[:0]
    if val_fraction:
        rest, val = _stratified(y[train], val_fraction / (1 - test_fraction), generator, "val_fraction", val_fraction)
        train, val = train[rest], train[val]
    part = x[train]
    if shared:
        mean, std = part.mean().repeat(x.shape[1]), part.std(correction=0).repeat(x.shape[1])
    else:
        mean, std = part.mean(dim=0), part.std(dim=0, correction=0)  # (features,)
    if not std.all():
        constant, name = feature_names[int(std.argmin())], "val_fraction" if val_fraction else "test_fraction"
        share = val_fraction or test_fraction
        raise ValueError(f"{name} of {share} leaves a training part in which {constant!r} is constant")
    x = ((x - mean) / std).to(dtype)
    mean, std = mean.to(dtype), std.to(dtype)
    return Split(x[train], y[train], x[test], y[test], mean, std, feature_names, class_names, x[val], y[val])


def _stratified(
    y: Tensor, fraction: float, generator: torch.Generator, name: str, given: float | None = None
) -> tuple[Tensor, Tensor]:
    r"""Indices of the rows that stay and of those held out, each class split alike; ``given`` is named in errors."""
    kept: list[Tensor] = []
    out: list[Tensor] = []
    for label in y.unique():
        rows = torch.nonzero(y == label).flatten()
        rows = rows[torch.randperm(len(rows), generator=generator)]
        share = fraction * len(rows)
        least, most = int(share >= 0.5), len(rows) - int(len(rows) - share >= 0.5)  # of two rows each part has one
        held_out = min(max(round(share), least), most)
        if not 0 < held_out < len(rows):
            raise ValueError(
                f"{name} must leave every class a row in {'both parts' if given is None else 'every part'}, got"
                f" {fraction if given is None else given} (class {label.item():g} has {len(rows)} rows)"
            )
        out.append(rows[:held_out])
        kept.append(rows[held_out:])
    return _shuffled(kept, generator), _shuffled(out, generator)


def _shuffled(groups: list[Tensor], generator: torch.Generator) -> Tensor:
    r"""Rows grouped by class in one random order, so that a slice is a fair sample."""
    rows = torch.cat(groups)
    return rows[torch.randperm(len(rows), generator=generator)]


def redraw(seed: int) -> int:
    r"""The seed of this run: :math:`s + 1000 k` with :math:`k` from the environment variable `DLNOTES_REDRAW`.

    Every random choice of a chapter takes its seed from here. As a rule :math:`k` is 0 and the seed the one written;
    `make redraw` runs the chapter again with :math:`k = 1, 2, …` and counts in how many runs each of its checks holds.
    A claim that is true of the method holds in all of them, one that is true of a seed does not.

    Args:
        seed: the seed as the chapter has it, from 0 to 999, so that no two choices of a run and no two runs meet.

    Raises:
        ValueError: `seed` is not a whole number from 0 to 999, or `DLNOTES_REDRAW` none from 0 to 1,000,000.

    >>> torch.randn(2, generator=torch.Generator().manual_seed(redraw(0))).shape
    torch.Size([2])
    """
    if isinstance(seed, bool) or not 0 <= seed < 1000 or seed != int(seed):
        raise ValueError(f"seed: expected a whole number from 0 to 999, got {seed!r}")
    offset = os.environ.get("DLNOTES_REDRAW", "0")
    if not re.fullmatch("[0-9]{1,6}|1000000", offset):
        raise ValueError(f"DLNOTES_REDRAW: expected a whole number from 0 to 1000000, got {offset!r}")
    return int(seed) + 1000 * int(offset)
