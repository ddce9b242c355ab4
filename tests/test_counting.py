import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dlnotes.counting import seq2seq_parameters, transformer_flops, transformer_parameters
from dlnotes.seq2seq import Seq2Seq
from dlnotes.transformer import Transformer

SIZES = {"d_model": 8, "num_encoder_layers": 2, "num_decoder_layers": 3, "dim_feedforward": 12}


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


# torch's, of its nested tensors
pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor:UserWarning")


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("nhead", [1, 4])
def test_a_transformers_parameters_are_counted(bias, nhead):
    for kind in (Transformer, nn.Transformer):
        model = kind(nhead=nhead, bias=bias, **SIZES)
        assert transformer_parameters(bias=bias, **SIZES) == count(model)


def test_the_base_models_parameters():
    with torch.device("meta"):
        assert transformer_parameters() == count(nn.Transformer())
        assert seq2seq_parameters(37000, 37000, tie_embeddings=True) == count(
            Seq2Seq(37000, 37000, tie_embeddings=True)
        )


@pytest.mark.parametrize("tie_output", [False, True])
@pytest.mark.parametrize("tie_embeddings", [False, True])
def test_a_seq2seqs_parameters_are_counted(tie_output, tie_embeddings):
    ties = {"tie_output": tie_output, "tie_embeddings": tie_embeddings}
    source = 17 if tie_embeddings else 9
    model = Seq2Seq(source, 17, nhead=2, **SIZES, **ties)
    assert seq2seq_parameters(source, 17, **SIZES, **ties) == count(model)


@pytest.mark.parametrize(("source", "target"), [(5, 7), (1, 1), (16, 3)])
def test_operations_are_counted(source, target):
    """By torch's counter, forward and, three times that, with the backward pass; several sentences cost as many."""
    for kind in (Transformer, nn.Transformer):
        model = kind(nhead=2, dropout=0.0, batch_first=True, **SIZES)
        src, tgt = (torch.randn(3, length, 8, requires_grad=True) for length in (source, target))
        # the kernel on a CPU is none that every version's counter knows
        with FlopCounterMode(display=False) as forward, sdpa_kernel(SDPBackend.MATH):
            output = model(src, tgt)
        assert forward.get_total_flops() == 3 * transformer_flops(source, target, **SIZES)
        with FlopCounterMode(display=False) as both, sdpa_kernel(SDPBackend.MATH):
            output.sum().backward()
        assert both.get_total_flops() == 2 * forward.get_total_flops()


def test_the_scores_are_counted():
    model = Seq2Seq(9, 17, nhead=2, **SIZES).eval()
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(torch.ones(1, 5, dtype=torch.long), torch.ones(1, 4, dtype=torch.long))
    assert counter.get_total_flops() == transformer_flops(5, 4, tgt_vocab=17, **SIZES)


@pytest.mark.parametrize("name", ["source", "target", "d_model", "num_encoder_layers", "dim_feedforward"])
def test_bad_sizes(name):
    with pytest.raises(ValueError, match=f"{name} must be >= 1, got 0"):
        transformer_flops(**{"source": 1, "target": 1, name: 0})
    if name not in ("source", "target"):
        with pytest.raises(ValueError, match=f"{name} must be >= 1, got 0"):
            transformer_parameters(**{name: 0})
    with pytest.raises(ValueError, match="tgt_vocab must be >= 0, got -1"):
        transformer_flops(1, 1, tgt_vocab=-1)
    with pytest.raises(ValueError, match="src_vocab must be >= 1, got 0"):
        seq2seq_parameters(0, 1)
