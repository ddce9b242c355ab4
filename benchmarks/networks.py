"""Norms and attention, forward and backward, ours beside torch's and the peers': python benchmarks/networks.py

A peer is measured where it can be imported; the record tells who is left out, and why. They need not be installed with
all that they ask for: `pip install --no-deps --target FOLDER labml-nn labml labml-helpers llms-from-scratch
x-transformers einops einx frozendict loguru torch-einops-utils`, then PYTHONPATH=FOLDER.
"""

import argparse
import functools
import importlib
from collections.abc import Callable
from typing import Any

import neighbours
import torch
from timing import compare, record
from torch import Tensor, nn

from dlnotes import attention, norms
from dlnotes.device import default_device
from dlnotes.multihead import MultiHeadAttention

IMAGES, SENTENCES = (32, 64, 32, 32), (32, 128, 512)
WIDTH, HEADS = 256, 8
LABML, LLMS, X = "labml-nn", "llms-from-scratch", "x-transformers"
NORMS = {  # what is compared: the class's name, its arguments, the input's shape, how peers make it
    "LayerNorm (32, 128, 512)": (
        "LayerNorm", (512,), SENTENCES,
        {LABML: ("labml_nn.normalization.layer_norm.LayerNorm", (512,)),
         LLMS: ("llms_from_scratch.ch04.LayerNorm", (512,)),
         X: ("x_transformers.x_transformers.LayerNorm", (512,))},
    ),
    "RMSNorm (32, 128, 512)": (
        "RMSNorm", (512,), SENTENCES, {X: ("x_transformers.x_transformers.RMSNorm", (512,))},
    ),
    "BatchNorm2d (32, 64, 32, 32)": (
        "BatchNorm2d", (64,), IMAGES, {LABML: ("labml_nn.normalization.batch_norm.BatchNorm", (64,))},
    ),
    "InstanceNorm2d (32, 64, 32, 32)": (
        "InstanceNorm2d", (64,), IMAGES, {LABML: ("labml_nn.normalization.instance_norm.InstanceNorm", (64,))},
    ),
    "GroupNorm, 8 groups (32, 64, 32, 32)": (
        "GroupNorm", (8, 64), IMAGES, {LABML: ("labml_nn.normalization.group_norm.GroupNorm", (8, 64))},
    ),
}  # fmt: skip
MISSING: dict[str, str] = {}  # peers that cannot be measured, and why
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


def peer(package: str, name: str) -> Any:
    """A peer's class by its dotted name, or None where it cannot be imported."""
    module, cls = name.rsplit(".", 1)
    try:
        return getattr(importlib.import_module(module), cls)
    except (ImportError, AttributeError) as error:
        MISSING[package] = f"{type(error).__name__}: {error}"
        return None


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
        try:
            found = run()
        except Exception as error:
            if name not in (LABML, LLMS, X):
                raise
            MISSING[name] = f"{type(error).__name__}: {error}"
            continue
        alike = all(torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(found, wanted, strict=True))
        if not alike and name == "ours":
            raise AssertionError(f"ours differs from {baseline}")
        named[name if alike else f"{name} (other values)"] = run
    return named


def norm_candidates(
    name: str, arguments: tuple, shape: tuple[int, ...], peers: dict[str, tuple[str, tuple]]
) -> dict[str, Callable]:
    """One norm in every implementation, on equal numbers."""
    generator, device = torch.Generator().manual_seed(0), default_device()
    x, dy = (torch.randn(shape, generator=generator).to(device) for _ in range(2))
    modules = {"ours": getattr(norms, name)(*arguments), "torch": getattr(nn, name)(*arguments)}
    for package, (dotted, peer_arguments) in peers.items():
        cls = peer(package, dotted)
        if cls:
            modules[package] = cls(*peer_arguments)
    return agree({form: both_ways(module.to(device), x, dy) for form, module in modules.items()}, "torch")


def attention_forwards() -> tuple[dict[str, Callable[[Tensor], Tensor]], Tensor, Tensor]:
    """Self-attention of padded sentences in which no word sees a later one, from equal weights; x and dy for it.

    Biases are 0, since a peer has none. Another takes no padding mask: behind the causal one nobody sees padding that
    comes last but the padding itself.
    """
    generator, device = torch.Generator().manual_seed(0), default_device()
    x, dy = (torch.randn(16, 128, WIDTH, generator=generator).to(device) for _ in range(2))
    lengths = torch.randint(64, 129, (16,), generator=generator).to(device)
    seen, causal = attention.padding_mask(lengths, 128), attention.causal_mask(128, device=device)
    packed, ours = Packed().to(device), MultiHeadAttention(WIDTH, HEADS, batch_first=True).to(device)
    theirs = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).to(device)
    nn.init.zeros_(packed.maps.bias)
    nn.init.zeros_(packed.out.bias)
    weights = {"in_proj_weight": packed.maps.weight, "in_proj_bias": packed.maps.bias}
    weights |= {"out_proj.weight": packed.out.weight, "out_proj.bias": packed.out.bias}
    options = {"need_weights": False, "attn_mask": ~causal, "key_padding_mask": ~seen}
    forwards: dict[str, Callable[[Tensor], Tensor]] = {"packed": lambda x: packed(x, seen[:, None, None] & causal)}
    for name, module in {"ours": ours, "torch": theirs}.items():
        module.load_state_dict(weights)
        forwards[name] = lambda x, module=module: module(x, x, x, **options)[0]
    if cls := peer(LABML, "labml_nn.transformers.mha.MultiHeadAttention"):
        labml = _with_weights(cls(HEADS, WIDTH, dropout_prob=0.0), packed)
        mask = (seen[:, None, :] & causal).permute(1, 2, 0)  # (queries, keys, batch)

        def turned(x: Tensor) -> Tensor:  # (length, batch, width) inside
            x = x.transpose(0, 1)
            return labml(query=x, key=x, value=x, mask=mask).transpose(0, 1)

        forwards[LABML] = turned
    if cls := peer(LLMS, "llms_from_scratch.ch03.MultiHeadAttention"):
        forwards[LLMS] = _with_weights(cls(WIDTH, WIDTH, 128, 0.0, HEADS, qkv_bias=True), packed)
    if cls := peer(X, "x_transformers.x_transformers.Attention"):
        flash = _with_weights(cls(WIDTH, heads=HEADS, dim_head=WIDTH // HEADS, causal=True, flash=True), packed)
        forwards[X] = lambda x: flash(x, mask=seen)
    # What padding says is nobody's business.
    masked = {name: lambda x, run=run: run(x) * seen[:, :, None] for name, run in forwards.items()}
    return masked, x, dy * seen[:, :, None]


def _with_weights(module: nn.Module, packed: Packed) -> nn.Module:
    """A peer with the weights of q, k, v and the output, in this order its linear layers."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    for layer, weight in zip(layers, [*packed.maps.weight.chunk(3), packed.out.weight], strict=True):
        layer.weight.data.copy_(weight)
        if getattr(layer, "bias", None) is not None:
            nn.init.zeros_(layer.bias)
    return module.to(packed.out.weight.device)


def attention_candidates() -> dict[str, Callable]:
    """Each implementation of attention, forward and backward."""
    forwards, x, dy = attention_forwards()
    return agree({name: both_ways(run, x, dy) for name, run in forwards.items()}, "packed")


def saved_for_backward() -> dict[str, float]:
    """Megabytes that each attention keeps from forward to backward, beside its weights and its input."""
    forwards, x, _ = attention_forwards()
    found = {}
    for name, forward in forwards.items():
        kept: dict[int, int] = {}
        leaf = x.clone().requires_grad_()

        def keep(tensor: Tensor, kept: dict[int, int] = kept, leaf: Tensor = leaf) -> Tensor:
            base = tensor if tensor._base is None else tensor._base
            if base is not leaf and not isinstance(base, nn.Parameter):
                kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        try:
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                y = forward(leaf)  # alive until all is counted, so that no address is taken twice
        except Exception as error:
            MISSING[name] = f"{type(error).__name__}: {error}"
            continue
        found[name] = round(sum(kept.values()) / 1e6, 1)
        del y
    return found


def main() -> None:
    """Measure everything and record it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each comparison (15)")
    parser.add_argument("--runs", type=int, default=10, help="single runs beside each kind of neighbours (10)")
    arguments = parser.parse_args()
    works: dict[str, Callable] = {work: functools.partial(norm_candidates, *how) for work, how in NORMS.items()}
    works[ATTENTION] = attention_candidates
    results = {}
    for work, make in works.items():
        print(work, flush=True)
        results[work] = compare(make, "packed" if work == ATTENTION else "torch", arguments.rounds)
    neighbours.complete(results, works, arguments.runs, "")
    saved = saved_for_backward()
    for form, found in results[ATTENTION].items():
        name = form.removesuffix(" (other values)")
        if name in saved:
            found["saved MB"] = saved[name]
    print("saved for backward, MB:", saved)
    print("left out:", MISSING or "nobody")
    notes = {f"{name}, left out in part at least": why for name, why in MISSING.items()}
    print("recorded in", record("networks", results, (LABML, LLMS, X), notes).name)


if __name__ == "__main__":
    main()
