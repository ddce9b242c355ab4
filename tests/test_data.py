r"""The data sets: what is held out, what is measured on which part, and that bad input is refused."""

import math

import jaxtyping
import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.preprocessing import StandardScaler

from dlnotes import data
from dlnotes.data import breast_cancer, digits, moons

ALL = [breast_cancer, digits, moons]


@pytest.mark.parametrize("load", ALL)
def test_same_seed_same_split_other_seed_another(load):
    first, again, other = load(), load(), load(seed=1)
    torch.testing.assert_close(first.x_test, again.x_test, rtol=0, atol=0)
    torch.testing.assert_close(first.y_train, again.y_train, rtol=0, atol=0)
    assert not torch.equal(first.x_test, other.x_test)


@pytest.mark.parametrize("load", ALL)
def test_each_class_keeps_its_share(load):
    data = load(test_fraction=0.25)
    for label in range(len(data.class_names)):
        held_out, kept = int((data.y_test == label).sum()), int((data.y_train == label).sum())
        assert abs(held_out - 0.25 * (held_out + kept)) <= 0.5


@pytest.mark.parametrize(("load", "source"), [(breast_cancer, load_breast_cancer), (digits, load_digits)])
def test_the_two_parts_are_the_whole_and_do_not_overlap(load, source):
    data = load(dtype=torch.float64)
    both = torch.cat([data.x_train, data.x_test]) * data.std + data.mean
    raw = torch.as_tensor(source().data)
    for j in (0, 20):  # the same multiset of values, column by column
        torch.testing.assert_close(both[:, j].sort().values, raw[:, j].sort().values)
    ours = sorted(map(tuple, both.round(decimals=6).tolist()))
    assert ours == sorted(map(tuple, raw.round(decimals=6).tolist()))


@pytest.mark.parametrize("load", [breast_cancer, moons])
def test_standardised_on_the_training_part_alone(load):
    data = load(dtype=torch.float64)
    zero, one = torch.zeros_like(data.mean), torch.ones_like(data.std)
    torch.testing.assert_close(data.x_train.mean(dim=0), zero, rtol=0, atol=1e-12)
    torch.testing.assert_close(data.x_train.std(dim=0, correction=0), one, rtol=0, atol=1e-12)
    assert data.x_test.mean(dim=0).abs().max() > 1e-3  # not zero: it had no say in the mean


def test_standardisation_equals_scikit_learns():
    data = breast_cancer(dtype=torch.float64)
    raw_train = data.x_train * data.std + data.mean
    raw_test = data.x_test * data.std + data.mean
    scaler = StandardScaler().fit(raw_train.numpy())
    np.testing.assert_allclose(scaler.transform(raw_test.numpy()), data.x_test.numpy(), atol=1e-9)


def test_digits_share_one_mean_and_one_deviation():
    data = digits()
    assert data.mean.unique().numel() == 1
    assert data.std.unique().numel() == 1
    assert data.x_train.mean().abs() < 1e-5
    assert data.x_train.std() == pytest.approx(1, abs=1e-3)
    assert data.x_train.abs().max() < 3  # no speck is blown up


def test_label_one_is_malignant():
    data = breast_cancer()
    assert int(data.y_train.sum() + data.y_test.sum()) == 212  # malignant tumours in the whole set
    size = data.feature_names.index("mean radius")
    assert data.x_train[data.y_train == 1, size].mean() > data.x_train[data.y_train == 0, size].mean()


def test_rows_are_shuffled():
    labels = breast_cancer().y_train
    assert 0.2 < labels[:100].mean() < 0.6  # sorted by class it would be 0


@pytest.mark.parametrize("load", ALL)
def test_types_and_names(load):
    data = load()
    assert data.x_train.dtype == torch.float32
    assert data.y_train.dtype == (torch.int64 if load is digits else torch.float32)
    assert len(data.feature_names) == data.x_train.shape[1]
    assert data.x_train.device.type == "cpu"


def test_to_moves_every_tensor():
    moved = moons().to("meta")
    assert {moved.x_train.device.type, moved.y_test.device.type, moved.std.device.type} == {"meta"}
    assert moved.feature_names == ("x1", "x2")


@pytest.mark.parametrize("fraction", [-0.5, 0.0, 1.0, 1.5, 0.0001])
def test_a_part_without_a_class_is_refused(fraction):
    with pytest.raises(ValueError, match=rf"test_fraction .* got {fraction}"):
        breast_cancer(test_fraction=fraction)


@pytest.fixture
def unchecked(monkeypatch):
    """No type checker in between, as in a reader's own run."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.usefixtures("unchecked")
def test_moons_refuses_bad_numbers():
    for n in (3, 4.5, -math.inf, math.inf, math.nan):
        with pytest.raises(ValueError, match=rf"n must be at least 4.*got {n}"):
            moons(n)
    for noise in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=rf"noise must be at least 0 and finite, got {noise}"):
            moons(noise=noise)


@pytest.mark.parametrize("fraction", [0.25, 0.5, 0.75])
def test_the_smallest_moons_have_each_class_in_each_part(fraction):
    for n in range(4, 12):
        data = moons(n, test_fraction=fraction)
        assert len(data.y_train) + len(data.y_test) == n
        assert set(data.y_train.tolist()) == set(data.y_test.tolist()) == {0, 1}
        assert data.x_train.isfinite().all()
        assert data.x_test.isfinite().all()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("load", ALL)
def test_bad_arguments_are_named(load):
    for fraction in (math.nan, math.inf, -0.1):
        with pytest.raises(ValueError, match=f"test_fraction must leave every class .*, got {fraction}"):
            load(test_fraction=fraction)
    for seed in (-1, 2**32, 0.5, math.nan):
        with pytest.raises(ValueError, match=rf"seed must be a whole number from 0 to 2\*\*32 - 1, got {seed}"):
            load(seed=seed)
    for dtype in (torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn):
        with pytest.raises(ValueError, match=f"dtype must be a floating type of 16, 32 or 64 bits, got {dtype}"):
            load(dtype=dtype)
    for dtype in (torch.float16, torch.bfloat16):
        assert load(dtype=dtype).x_test.isfinite().all()


def test_a_column_without_spread_is_refused():
    # two training rows that agree in a column: it would be divided by 0
    with pytest.raises(ValueError, match=r"test_fraction of 0.997 leaves a training part in which 'mean smoothness'"):
        breast_cancer(test_fraction=0.997, seed=86)


def test_moons_without_noise_lie_on_two_half_circles():
    data = moons(100, noise=0.0, dtype=torch.float64)
    raw = data.x_train * data.std + data.mean
    upper = raw[data.y_train == 0]
    torch.testing.assert_close(upper.norm(dim=1), torch.ones(len(upper), dtype=torch.float64))


# ---- redraw


def test_a_seed_is_the_one_written_until_a_redraw_is_asked_for(monkeypatch):
    monkeypatch.delenv("DLNOTES_REDRAW", raising=False)
    assert [data.redraw(seed) for seed in (0, 7, 999)] == [0, 7, 999]
    monkeypatch.setenv("DLNOTES_REDRAW", "3")
    assert [data.redraw(seed) for seed in (0, 7, 999)] == [3000, 3007, 3999]


def test_no_two_seeds_of_any_two_redraws_meet(monkeypatch):
    found = set()
    for offset in range(5):
        monkeypatch.setenv("DLNOTES_REDRAW", str(offset))
        found |= {data.redraw(seed) for seed in range(1000)}
    assert len(found) == 5000


@pytest.mark.parametrize("seed", [-1, 1000, True])
def test_a_seed_that_would_meet_another_is_refused(seed):
    with pytest.raises(ValueError, match="^seed: expected a whole number from 0 to 999, got"):
        data.redraw(seed)


@pytest.mark.parametrize("offset", ["-1", "x", "", "1.5", "10000000"])
def test_an_offset_that_is_none_is_refused(monkeypatch, offset):
    monkeypatch.setenv("DLNOTES_REDRAW", offset)
    with pytest.raises(ValueError, match="^DLNOTES_REDRAW: expected a whole number"):
        data.redraw(0)


# ---- a third part, for choosing


@pytest.mark.parametrize("load", ALL)
def test_a_validation_part_leaves_the_test_part_as_it_is(load):
    two, three = load(dtype=torch.float64), load(val_fraction=0.15, dtype=torch.float64)
    assert two.x_val.shape == (0, two.x_train.shape[1])
    assert two.y_val.shape == (0,)
    raw = [data.x_test * data.std + data.mean for data in (two, three)]
    torch.testing.assert_close(*raw, rtol=0, atol=1e-9)
    assert torch.equal(two.y_test, three.y_test)
    assert len(three.y_train) + len(three.y_val) == len(two.y_train)
    assert len(three.x_val) == len(three.y_val) == pytest.approx(0.15 * (len(two.y_train) + len(two.y_test)), abs=5)
    rows = torch.cat([three.x_train, three.x_val]) * three.std + three.mean
    before = two.x_train * two.std + two.mean
    same = sorted(map(tuple, rows.round(decimals=6).tolist())) == sorted(map(tuple, before.round(decimals=6).tolist()))
    assert same  # the same rows as without it, none twice
    for label in range(len(three.class_names)):
        whole = sum(int((y == label).sum()) for y in (three.y_train, three.y_val, three.y_test))
        assert abs(int((three.y_val == label).sum()) - 0.15 * whole) <= 1


@pytest.mark.parametrize("load", [breast_cancer, moons])
def test_the_validation_part_has_no_say_in_the_standardisation(load):
    data = load(val_fraction=0.2, dtype=torch.float64)
    torch.testing.assert_close(data.x_train.mean(dim=0), torch.zeros_like(data.mean), rtol=0, atol=1e-12)
    assert data.x_val.mean(dim=0).abs().max() > 1e-3
    assert data.to("meta").x_val.device.type == "meta"


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("load", ALL)
def test_a_bad_validation_fraction_is_named(load):
    for fraction in (-0.1, 0.75, 1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=rf"val_fraction must be at least 0 and leave .* 0.25, got {fraction}"):
            load(val_fraction=fraction)
    with pytest.raises(ValueError, match=r"val_fraction must leave every class a row in every part, got 0.0001"):
        load(val_fraction=0.0001)
