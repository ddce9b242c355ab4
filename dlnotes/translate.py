r"""The translator as a command: ``python -m dlnotes.translate train``, ``translate`` and ``evaluate``.

Without a file of its own it learns from the course's sentences, :mod:`dlnotes.corpus`; ``--help`` says more::

    python -m dlnotes.translate train run
    python -m dlnotes.translate translate run "Machine learning"
    python -m dlnotes.translate evaluate run
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dlnotes.corpus import glossary, grammar
from dlnotes.logs import Log, Progress
from dlnotes.pairs import Pair, read_pairs, split_pairs
from dlnotes.text import TOKENIZERS
from dlnotes.translator import SIZES, Translator

FILE = "translator.pt"


def main(arguments: Sequence[str] | None = None) -> int:
    r"""Do what the command line asks, and return 0; or say on standard error what is wrong, and return 1.

    >>> import contextlib
    >>> with contextlib.redirect_stderr(sys.stdout):
    ...     main(["translate", "nowhere", "Hello"])
    error: no checkpoint at nowhere/translator.pt
    1
    """
    asked = _parser().parse_args(arguments)
    try:
        asked.do(asked)
    except (OSError, ValueError, TypeError, LookupError, RuntimeError, ArithmeticError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _train(asked: argparse.Namespace) -> None:
    if not -(2**63) <= asked.seed < 2**64:
        raise ValueError(f"seed must be a whole number of 64 bits, got {asked.seed}")
    torch.manual_seed(asked.seed)
    train, val = _pairs(asked)
    print(f"{len(train)} pairs to learn from, {len(val)} held out")
    sizes = {name: getattr(asked, name) for name in SIZES if hasattr(asked, name)}
    translator = Translator(asked.source, asked.target, min_count=asked.min_count, **sizes)
    options: dict[str, Any] = {name: getattr(asked, name) for name in ("lr", "max_tokens", "label_smoothing", "amp")}
    translator.fit(train, val, epochs=asked.epochs, folder=asked.folder, hooks=[Progress(), Log()], **options)
    translator.save(asked.folder / FILE)
    print(f"saved {asked.folder / FILE}")


def _translate(asked: argparse.Namespace) -> None:
    translator = Translator.load(asked.folder / FILE)
    sentences = asked.sentences or [line.rstrip("\n") for line in sys.stdin]
    for translation in translator.translate(sentences, beams=asked.beams, length_penalty=asked.length_penalty):
        print(translation)


def _evaluate(asked: argparse.Namespace) -> None:
    translator = Translator.load(asked.folder / FILE)
    pairs = _pairs(asked)[1]
    scores = translator.evaluate(pairs, beams=asked.beams, length_penalty=asked.length_penalty)
    print(f"{len(pairs)} sentences: {scores}")


def _pairs(asked: argparse.Namespace) -> tuple[list[Pair], list[Pair]]:
    """To learn from, and held out: of the file given, or of the course's own sentences."""
    if asked.pairs is None:
        train, val = grammar()
        known = {*train}
        train += 12 * [term for term in glossary() if term not in known]  # a word that stands in one pair needs more
    else:
        pairs = read_pairs(asked.pairs, encoding=asked.encoding, skip_bad=asked.skip_bad)
        train, val = split_pairs(pairs, asked.held_out)
    if asked.reverse:
        train, val = ([(target, source) for source, target in part] for part in (train, val))
    return train, val


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dlnotes.translate", description="A small translator.")
    commands = parser.add_subparsers(required=True, metavar="train | translate | evaluate")

    def command(name: str, do: Any, words: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=words, description=words)
        one.add_argument("folder", type=Path, help="where the translator is kept")
        one.set_defaults(do=do)
        return one

    train = command("train", _train, "learn from pairs; started again, an interrupted run goes on")
    train.add_argument("--epochs", type=int, default=12, help="default %(default)s")
    train.add_argument("--seed", type=int, default=0, help="of all chance, default %(default)s")
    train.add_argument("--lr", type=float, default=4e-3, help="highest learning rate, default %(default)s")
    train.add_argument("--max-tokens", type=int, default=1024, help="places in a batch, default %(default)s")
    train.add_argument("--label-smoothing", type=float, default=0.1, help="default %(default)s")
    train.add_argument("--amp", choices=["bf16", "fp16"], help="mixed precision")
    train.add_argument("--source", choices=list(TOKENIZERS), default="words", help="tokens, default %(default)s")
    train.add_argument("--target", choices=list(TOKENIZERS), default="characters", help="tokens, default %(default)s")
    train.add_argument("--min-count", type=int, default=1, help="rarer tokens are unknown, default %(default)s")
    for name, default in SIZES.items():
        if not isinstance(default, bool):
            option = f"--{name.replace('_', '-')}"
            train.add_argument(option, type=type(default), default=default, help="of the model, default %(default)s")
    evaluate = command("evaluate", _evaluate, "BLEU and chrF of the pairs held out; needs sacrebleu")
    for one in (train, evaluate):
        one.add_argument(
            "--pairs", type=Path, help="a file of pairs, tab-separated, .po or .mo; default: the course's own"
        )
        one.add_argument("--encoding", help="of the file, default UTF-8")
        one.add_argument("--skip-bad", action="store_true", help="leave bad lines out, with a warning")
        one.add_argument("--held-out", type=float, default=0.1, help="share, as in training; default %(default)s")
        one.add_argument("--reverse", action="store_true", help="from the second language to the first")
    translate = command("translate", _translate, "translate sentences, or the lines of standard input")
    translate.add_argument("sentences", nargs="*", help="to translate")
    for one in (translate, evaluate):
        one.add_argument("--beams", type=int, default=4, help="1 is greedy, default %(default)s")
        one.add_argument("--length-penalty", type=float, default=1.0, help="default %(default)s")
    return parser


if __name__ == "__main__":
    sys.exit(main())
