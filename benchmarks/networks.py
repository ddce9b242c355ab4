"""Norms and attention, forward and backward, ours beside torch's and labml-nn's: python benchmarks/networks.py"""

import argparse
import functools
import importlib
import importlib.util
from collections.abc import Callable

import neighbours
import torch
from timing import compare, record
from torch import Tensor, nn

from dlnotes import attention, norms
from dlnotes.device import default_device
from dlnotes.multihead import MultiHeadAttention

IMAGES, SENTENCES = (32, 64, 32, 32), (32, 128, 512)
WIDTH, HEADS = 256, 8
NORMS = {  # what is compared: the class's name, its arguments, the input's shape, how labml-nn makes it
    "LayerNorm (32, 128, 512)": ("LayerNorm", (512,), SENTENCES, ("layer_norm", "LayerNorm", (512,))),
    "RMSNorm (32, 128, 512)": ("RMSNorm", (512,), SENTENCES, None),
    "BatchNorm2d (32, 64, 32, 32)": ("BatchNorm2d", (64,), IMAGES, ("batch_norm", "BatchNorm", (64,))),
    "InstanceNorm2d (32, 64, 32, 32)": ("InstanceNorm2d", (64,), IMAGES, ("instance_norm", "InstanceNorm", (64,))),
    "GroupNorm, 8 groups (32, 64, 32, 32)": ("GroupNorm", (8, 64), IMAGES, ("group_norm", "GroupNorm", (8, 64))),
}
ATTENTION = "multi-head attention (16, 128, 256), 8 heads, padding and causal"


class Packed(nn.Module):
    """Several heads as one writes them with torch's kernel: one product for q, k and v, boolean masks."""

    def __init__(self):
        super().__init__()
        self.maps, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Attend from x to itself where the mask is True."""
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in self.maps(x).chunk(3, dim=-1))
        return self.out(nn.functional.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2))


def both_ways(forward: Callable[[Tensor], Tensor], x: Tensor, dy: Tensor) -> Callable[[], tuple[Tensor, Tensor]]:
    """A run forward and backward on an input of its own, which gives the output and the input's gradient."""
    x = x.clone().requires_grad_()

    def run() -> tuple[Tensor, Tensor]:
        x.grad = None
        y = forward(x)
        y.backward(dy)
        assert x.grad is not None
        return y.detach(), x.grad

    return run


def agree(runs: dict[str, Callable[[], tuple[Tensor, Tensor]]], baseline: str) -> dict[str, Callable[[], object]]:
    """The runs, after a look at their numbers: ours must be torch's; a peer with others is said so by its name."""
    wanted, named = runs[baseline](), {}
    for name, run in runs.items():
        alike = all(torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(run(), wanted, strict=True))
        if not alike and name == "ours":
            raise AssertionError(f"ours differs from {baseline}")
        named[name if alike else f"{name} (other values)"] = run
    return named


def norm_candidates(name: str, arguments: tuple, shape: tuple[int, ...], peer: tuple | None) -> dict[str, Callable]:
    """One norm in every implementation, on equal numbers."""
    generator, device = torch.Generator().manual_seed(0), default_device()
    x, dy = (torch.randn(shape, generator=generator).to(device) for _ in range(2))
    modules = {"ours": getattr(norms, name)(*arguments), "torch": getattr(nn, name)(*arguments)}
    if peer and importlib.util.find_spec("labml_nn"):
        module, cls, peer_arguments = peer
        found = importlib.import_module(f"labml_nn.normalization.{module}")
        modules["labml-nn"] = getattr(found, cls)(*peer_arguments)
    return agree({form: both_ways(module.to(device), x, dy) for form, module in modules.items()}, "torch")


def attention_candidates() -> dict[str, Callable]:
    """Self-attention of padded sentences in which no word sees a later one, from equal weights."""
    generator, device = torch.Generator().manual_seed(0), default_device()
    x, dy = (torch.randn(16, 128, WIDTH, generator=generator).to(device) for _ in range(2))
    lengths = torch.randint(64, 129, (16,), generator=generator).to(device)
    seen, causal = attention.padding_mask(lengths, 128), attention.causal_mask(128, device=device)
    dy = dy * seen[:, :, None]  # what padding says is nobody's business
    packed, ours = Packed().to(device), MultiHeadAttention(WIDTH, HEADS, batch_first=True).to(device)
    theirs = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).to(device)
    weights = {"in_proj_weight": packed.maps.weight, "in_proj_bias": packed.maps.bias}
    weights |= {"out_proj.weight": packed.out.weight, "out_proj.bias": packed.out.bias}
    options = {"need_weights": False, "attn_mask": ~causal, "key_padding_mask": ~seen}
    forwards = {"packed": lambda x: packed(x, seen[:, None, None] & causal)}
    for name, module in {"ours": ours, "torch": theirs}.items():
        module.load_state_dict(weights)
        forwards[name] = lambda x, module=module: module(x, x, x, **options)[0]
    masked = {name: lambda x, run=run: run(x) * seen[:, :, None] for name, run in forwards.items()}
    return agree({name: both_ways(run, x, dy) for name, run in masked.items()}, "packed")


def main() -> None:
    """Measure everything and record it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21, help="rounds of each comparison (21)")
    parser.add_argument("--runs", type=int, default=40, help="single runs beside each kind of neighbours (40)")
    arguments = parser.parse_args()
    works: dict[str, Callable] = {work: functools.partial(norm_candidates, *how) for work, how in NORMS.items()}
    works[ATTENTION] = attention_candidates
    results = {}
    for work, make in works.items():
        print(work, flush=True)
        results[work] = compare(make, "packed" if work == ATTENTION else "torch", arguments.rounds)
    neighbours.complete(results, works, arguments.runs, "")
    print("recorded in", record("networks", results, ("labml-nn",)).name)


if __name__ == "__main__":
    main()
