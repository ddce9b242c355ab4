import math

import jaxtyping
import pytest
import torch
from alone import runs_alone
from hypothesis import given
from hypothesis import strategies as st

from dlnotes.attention import attend, padding_mask
from dlnotes.positions import LearnedPositions, count_positions, rotate, shift_matrix, sinusoidal

EXACT = {"dtype": torch.float64}


@pytest.fixture
def unchecked(monkeypatch):
    """No type checker in between, as in a reader's own run."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@given(
    positions=st.lists(st.integers(-1000, 10**7) | st.floats(-100, 100), min_size=1, max_size=4),
    width=st.integers(1, 9),
    base=st.sampled_from([10000.0, 2.0, 500.0]),
)
def test_sinusoidal_is_the_formula(positions, width, base):
    expected = [
        [(math.cos if column % 2 else math.sin)(t / base ** ((column - column % 2) / width)) for column in range(width)]
        for t in positions
    ]
    found = sinusoidal(torch.tensor(positions, **EXACT), width, base, **EXACT)
    torch.testing.assert_close(found, torch.tensor(expected, **EXACT), rtol=1e-7, atol=1e-7)
    assert found.shape == (len(positions), width)


def test_sinusoidal_positions_of_any_shape_and_far_away():
    offset = sinusoidal(torch.arange(5, 9), 6)
    assert torch.equal(offset, sinusoidal(torch.arange(9), 6)[5:])
    assert sinusoidal(torch.zeros(2, 3, 4), 5).shape == (2, 3, 4, 5)
    assert sinusoidal(torch.tensor(3), 2).tolist() == pytest.approx([math.sin(3), math.cos(3)])
    assert sinusoidal(torch.zeros(0), 4).shape == (0, 4)
    assert sinusoidal(torch.tensor([7]), 4, dtype=torch.float16).dtype == torch.float16
    far = 10**7 + 1  # as float32 this is 10**7 + 1, but times the second rate it is not
    second = far / 10000 ** (2 / 8)
    assert sinusoidal(torch.tensor(far), 8)[2].item() == pytest.approx(math.sin(second), abs=1e-6)


@given(t=st.integers(-50, 10000), k=st.integers(-5000, 5000), half=st.integers(1, 8), base=st.sampled_from([1e4, 10.0]))
@pytest.mark.usefixtures("double")
def test_a_shift_is_a_rotation(t, k, half, base):
    matrix = shift_matrix(k, 2 * half, base)
    before, after = (sinusoidal(torch.tensor(n), 2 * half, base) for n in (t, t + k))
    torch.testing.assert_close(matrix @ before, after, rtol=0, atol=1e-9)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(2 * half), rtol=0, atol=1e-12)
    assert torch.linalg.det(matrix) == pytest.approx(1, abs=1e-9)
    assert before @ before == pytest.approx(half)  # all positions are as long


@pytest.mark.usefixtures("double")
def test_shift_by_hand():
    quarter = math.pi / 2
    torch.testing.assert_close(shift_matrix(quarter, 2), torch.tensor([[0.0, 1.0], [-1.0, 0.0]]))
    assert shift_matrix(1, 4)[:2, 2:].eq(0).all()
    assert shift_matrix(0.0, 6).equal(torch.eye(6))


@given(half=st.integers(1, 5), seed=st.integers(0, 99), base=st.sampled_from([1e4, 3.0]))
def test_rotary_is_a_product_of_complex_numbers(half, seed, base):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 3, 7, 2 * half, generator=generator, **EXACT)
    positions = torch.randint(-10, 1000, (2, 1, 7), generator=generator)
    rates = base ** (-torch.arange(half, **EXACT) / half)
    turn = torch.exp(1j * positions[..., None] * rates)
    pairs = torch.complex(*x.unflatten(-1, (half, 2)).unbind(-1)) * turn
    expected = torch.view_as_real(pairs).flatten(-2)
    torch.testing.assert_close(rotate(x, positions, base), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(rotate(x), rotate(x, torch.arange(7)), rtol=0, atol=0)
    torch.testing.assert_close(rotate(x).norm(dim=-1), x.norm(dim=-1), rtol=1e-12, atol=1e-12)


@given(offset=st.integers(-1000, 10000), seed=st.integers(0, 99))
def test_rotary_products_know_distances_only(offset, seed):
    generator = torch.Generator().manual_seed(seed)
    q, k = torch.randn(2, 4, 6, generator=generator, **EXACT)
    places = torch.arange(4)
    scores = rotate(q, places) @ rotate(k, places).T
    moved = rotate(q, places + offset) @ rotate(k, places + offset).T
    torch.testing.assert_close(moved, scores, rtol=1e-9, atol=1e-9)
    uneven = rotate(q, places + 3) @ rotate(k, places).T
    assert not torch.allclose(uneven, scores)


def test_rotary_by_hand():
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0]], **EXACT)
    half_turn = rotate(x, torch.tensor([math.pi], **EXACT), base=1.0)
    torch.testing.assert_close(half_turn, -x)
    assert torch.equal(rotate(x), x)  # the first word stays
    gradient = torch.autograd.functional.jacobian(lambda x: rotate(x, torch.tensor([2])), x)[0, :, 0]
    torch.testing.assert_close(gradient @ gradient.T, torch.eye(4, **EXACT))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rotary_of_half_precision_keeps_its_type(dtype):
    x = torch.randn(1, 3, 8, generator=torch.Generator().manual_seed(0))
    places = torch.tensor([5000, 5001, 30000])
    found = rotate(x.to(dtype), places)
    assert found.dtype == dtype
    assert torch.equal(found, rotate(x.to(dtype).float(), places).to(dtype))  # rounded once, at the end
    with torch.autocast("cpu", dtype=dtype):
        torch.testing.assert_close(rotate(x, places), rotate(x, places.double()))


def test_sentences_padded_on_the_left_equal_themselves_alone():
    lengths, width = [2, 5], 5
    x = torch.randn(2, width, 6, generator=torch.Generator().manual_seed(0), **EXACT)
    mask = padding_mask(lengths, width, left=True)
    places = count_positions(mask)
    assert places.tolist() == [[0, 0, 0, 0, 1], [0, 1, 2, 3, 4]]
    assert count_positions(padding_mask([2], 4)).tolist() == [[0, 1, 1, 1]]
    inputs = x + sinusoidal(places, 6, **EXACT)
    turned = rotate(inputs, places)
    together = attend(turned, turned, inputs, mask[:, None])
    for sentence, length in enumerate(lengths):
        own = x[sentence, width - length :] + sinusoidal(torch.arange(length), 6, **EXACT)
        alone = attend(rotate(own), rotate(own), own)
        torch.testing.assert_close(together[sentence, width - length :], alone, rtol=1e-12, atol=1e-12)


def test_learned_positions():
    table = LearnedPositions(10, 4)
    plain = torch.nn.Embedding(10, 4)
    plain.load_state_dict(table.state_dict())
    table.load_state_dict(plain.state_dict())
    places = torch.tensor([[0, 9], [3, 3]])
    assert torch.equal(table(places), plain(places))
    assert table(torch.zeros(0, dtype=torch.long)).shape == (0, 4)
    table(places).sum().backward()
    assert table.weight.grad[:, 0].tolist() == [1, 0, 0, 2, 0, 0, 0, 0, 0, 1]
    for wrong in (10, -1):
        with pytest.raises(IndexError, match=f"positions must be from 0 to 9, where the table ends, got {wrong}"):
            table(torch.tensor([0, wrong]))
    for wrong in (torch.tensor([1.0]), torch.tensor([True])):
        with pytest.raises(TypeError, match=r"positions must be int32 or int64, got torch\."):
            table(wrong)


@pytest.mark.usefixtures("unchecked")
def test_wrong_widths_bases_and_shapes():
    with pytest.raises(ValueError, match="width must be >= 1, got 0"):
        sinusoidal(torch.arange(2), 0)
    with pytest.raises(TypeError, match="width must be >= 1, and a whole number .* got 4.0"):
        sinusoidal(torch.arange(2), 4.0)
    for base in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"base must be > 0 and finite, got {base}"):
            sinusoidal(torch.arange(2), 4, base)
        with pytest.raises(ValueError, match=f"base must be > 0 and finite, got {base}"):
            rotate(torch.ones(2, 4), base=base)
    with pytest.raises(ValueError, match="width must be even, since its columns turn in pairs, got 5"):
        shift_matrix(1, 5)
    with pytest.raises(ValueError, match="the width of x must be even, since its columns turn in pairs, got 5"):
        rotate(torch.ones(2, 5))
    with pytest.raises(ValueError, match=r"x must have the shape \(\.\.\., length, width\), got \(4,\)"):
        rotate(torch.ones(4))
    for positions in (torch.arange(3), torch.zeros(1, 1, 2), torch.zeros(2, 1, 2, 1)):
        with pytest.raises(ValueError, match=r"positions must broadcast to \(3, 2\), got"):
            rotate(torch.ones(3, 2, 4), positions)


COMPILED = """
import torch
from dlnotes.positions import LearnedPositions, rotate, sinusoidal

x, places = torch.randn(2, 3, 5, 8), torch.arange(5)
table = LearnedPositions(9, 4)
for f, inputs in ((rotate, (x,)), (rotate, (x, places)), (sinusoidal, (places, 7)), (table, (places,))):
    torch.testing.assert_close(torch.compile(f, fullgraph=True, backend="aot_eager")(*inputs), f(*inputs))
"""


@pytest.mark.slow
def test_compile_as_one_graph():
    runs_alone(COMPILED)
