r"""Teacher forcing: a model learns the next token after the right ones, at all places of a sentence at once."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn
from torch.utils.data import DataLoader

from dlnotes.arguments import check_below_one, check_whole
from dlnotes.buckets import BucketSampler, Numbers, collate
from dlnotes.hooks import Hook
from dlnotes.optim import AdamW
from dlnotes.runner import Runner
from dlnotes.saving import Checkpoint
from dlnotes.schedules import cosine, scheduler, then, warmup
from dlnotes.step import TrainStep
from dlnotes.text import PAD

Encoded = Sequence[tuple[Numbers, Numbers]]


class TokenLoss:
    r"""Cross-entropy with label smoothing, as a mean over the tokens that are not padding.

    With :math:`p` for the softmax of a place's scores, :math:`y` for the token that stands there:

    .. math:: \ell = -(1 - \epsilon) \log p_y - \frac{\epsilon}{V} \sum_{v=1}^{V} \log p_v

    Args:
        label_smoothing: :math:`\epsilon` in [0, 1), default 0.

    Equal to :func:`torch.nn.functional.cross_entropy` with ``label_smoothing`` and ``ignore_index=PAD``; but padding
    alone has the loss 0, over 0 tokens, where torch's is NaN. A call returns what :class:`~dlnotes.step.TrainStep`
    wants: ``loss``; ``nll``, the same without smoothing, which compares models; ``count``, the tokens that both are
    means over, so that batches of any size weigh as they should.

    Source: Szegedy et al., *Rethinking the Inception Architecture* (2016), section 7.

    >>> import torch
    >>> losses = TokenLoss()(torch.zeros(1, 3, 8), torch.tensor([[4, 2, 0]]))
    >>> round(losses["loss"].item(), 4), losses["count"].item()  # ln 8, over two tokens
    (2.0794, 2)
    """

    def __init__(self, label_smoothing: float = 0.0):
        check_below_one(label_smoothing=label_smoothing)
        self.label_smoothing = label_smoothing

    def __call__(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        r"""Of scores (N, T, V) for the tokens (N, T) to be written."""
        real = target != PAD
        log_probs = output[real].log_softmax(dim=-1)  # (tokens, V): padding takes no time here
        count = real.sum()
        tokens = count.clamp(min=1)  # none at all: the loss is 0, and weighs nothing
        nll = -log_probs.gather(1, target[real][:, None]).sum() / tokens
        loss = nll
        if self.label_smoothing:
            loss = (1 - self.label_smoothing) * nll - self.label_smoothing * log_probs.mean(dim=-1).sum() / tokens
        return {"loss": loss, "nll": nll.detach(), "count": count}


def loader(pairs: Encoded, max_tokens: int, shuffle: bool) -> "DataLoader[tuple[Tensor, Tensor, Tensor]]":
    r"""The batches of these pairs, as :func:`~dlnotes.buckets.collate` makes them.

    Args:
        pairs: numbers of source and target, without special ones.
        max_tokens: places in a batch, see :class:`~dlnotes.buckets.BucketSampler`.
        shuffle: for training.

    >>> [source.shape for source, read, written in loader([([5, 6], [7]), ([4], [8])], 100, shuffle=False)]
    [torch.Size([2, 3])]
    """
    sampler = BucketSampler([(len(source) + 1, len(target) + 1) for source, target in pairs], max_tokens, shuffle)
    return DataLoader(pairs, batch_sampler=sampler, collate_fn=collate)  # pyright: ignore[reportArgumentType]


def teach(
    model: nn.Module,
    train: Encoded,
    val: Encoded | None = None,
    *,
    epochs: int,
    lr: float = 4e-3,
    max_tokens: int = 1024,
    label_smoothing: float = 0.1,
    clip_norm: float = 1.0,
    warmup_share: float = 0.1,
    accumulate: int = 1,
    amp: str | None = None,
    folder: str | Path | None = None,
    hooks: Sequence[Hook] = (),
) -> Runner:
    r"""Train a model of the kind of :class:`~dlnotes.seq2seq.Seq2Seq`, and return the Runner that has done it.

    AdamW without weight decay and :math:`\beta_2 = 0.98`; the rate rises in a straight line, then falls to 0 along half
    a cosine.

    Args:
        model: on its device; called with (source, read), it gives scores.
        train: numbers of source and target, without special ones.
        val: pairs to judge by after every epoch; ``None`` (default) for none.
        epochs: how many, of the run as a whole when it is taken up again.
        lr: the highest rate, default 4e-3.
        max_tokens: places in a batch, default 1024.
        label_smoothing: default 0.1.
        clip_norm: default 1.
        warmup_share: the part of all updates in which the rate rises, in [0, 1), default 0.1.
        accumulate: as for :class:`~dlnotes.step.TrainStep`.
        amp: likewise.
        folder: where ``last.pt`` and, with ``val``, ``best.pt`` (by ``val_nll``) are written; a run that was
            interrupted there is taken up exactly where it was. Default ``None``: nothing is written.
        hooks: further ones.

    Raises:
        ValueError, TypeError: a number is out of range, or there is nothing to learn from.
        CheckpointError: the folder's run had another model, other data or another optimizer.

    >>> import torch
    >>> from dlnotes.seq2seq import Seq2Seq
    >>> _ = torch.manual_seed(0)
    >>> model = Seq2Seq(9, 9, d_model=16, nhead=2, num_encoder_layers=1, num_decoder_layers=1, dim_feedforward=32)
    >>> runner = teach(model, [([4, 5, 6], [6, 5, 4]), ([7, 8], [8, 7])], epochs=60, lr=1e-2)
    >>> runner.history[-1]["nll"] < 0.5 < runner.history[0]["nll"]
    True
    """
    check_whole("epochs", epochs)
    check_below_one(warmup_share=warmup_share)
    batches = loader(train, max_tokens, shuffle=True)
    updates = epochs * -(-len(batches) // max(accumulate, 1))
    rising = max(1, round(warmup_share * updates))
    optimizer = AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = then(warmup(rising), rising, cosine(max(1, updates - rising)))
    step = TrainStep(
        model, TokenLoss(label_smoothing), optimizer, scheduler=scheduler(optimizer, schedule), accumulate=accumulate,
        clip_norm=clip_norm, amp=amp,
    )  # fmt: skip
    if folder is not None:
        hooks = [*hooks, Checkpoint(folder, monitor=None if val is None else "val_nll", mode="min")]
    runner = Runner(step, batches, None if val is None else loader(val, max_tokens, shuffle=False), hooks=hooks)
    if folder is not None:
        runner.resume_if_possible(folder)
    if runner.epoch < epochs:
        runner.train(epochs)
    return runner
