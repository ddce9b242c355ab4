import io
import subprocess
import sys

import pytest

from dlnotes.corpus import grammar
from dlnotes.translate import main
from dlnotes.translator import Translator

SMALL = [
    "--d-model",
    "16",
    "--nhead",
    "2",
    "--dim-feedforward",
    "32",
    "--num-encoder-layers",
    "1",
    "--num-decoder-layers",
    "1",
]


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setenv("DLNOTES_DEVICE", "cpu")


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"{a}\t{b}\n" for a, b in grammar(80, 0)[0]), encoding="utf-8")
    return str(path)


@pytest.mark.filterwarnings("ignore:tokens that are not known", "ignore:.* did not end", "ignore:.*are longer than")
def test_from_a_file_to_translations(tmp_path, table, capsys, monkeypatch):
    run = str(tmp_path / "run")
    assert main(["train", run, "--pairs", table, "--epochs", "2", *SMALL]) == 0
    output = capsys.readouterr().out
    assert "72 pairs to learn from, 8 held out" in output
    assert "epoch 2" in output
    assert output.endswith(f"saved {tmp_path / 'run' / 'translator.pt'}\n")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"last.pt", "best.pt", "translator.pt"}
    assert main(["translate", run, "machine learning", "the model"]) == 0
    said = capsys.readouterr().out
    assert said.count("\n") == 2
    monkeypatch.setattr(sys, "stdin", io.StringIO("machine learning\nthe model\n"))
    assert main(["translate", run]) == 0
    assert capsys.readouterr().out == said
    assert Translator.load(tmp_path / "run" / "translator.pt").translate(["machine learning"])


@pytest.mark.filterwarnings("ignore:tokens that are not known", "ignore:.* did not end", "ignore:.*are longer than")
def test_evaluate(tmp_path, table, capsys):
    pytest.importorskip("sacrebleu", reason="the extra bleu is not installed")
    run = str(tmp_path / "run")
    main(
        [
            "train",
            run,
            "--pairs",
            table,
            "--epochs",
            "1",
            *SMALL,
            "--reverse",
            "--source",
            "characters",
            "--target",
            "words",
        ]
    )
    capsys.readouterr()
    assert main(["evaluate", run, "--pairs", table, "--reverse", "--beams", "1"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("8 sentences: BLEU ")
    assert "tok:13a" in output


def test_a_run_goes_on(tmp_path, table, capsys):
    run = str(tmp_path / "run")
    main(["train", run, "--pairs", table, "--epochs", "1", *SMALL])
    with pytest.warns(UserWarning, match="these settings are not those of the saved run.*: scheduler"):  # more epochs
        assert main(["train", run, "--pairs", table, "--epochs", "2", *SMALL]) == 0
    assert "resumed from" in capsys.readouterr().out
    assert main(["train", run, "--pairs", table, "--epochs", "2", *SMALL]) == 0  # nothing is left to do


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["translate", "nowhere", "a"], "error: no checkpoint at nowhere"),
        (["train", "{run}", "--pairs", "nowhere.tsv"], "error: [Errno 2] No such file or directory"),
        (
            ["train", "{run}", "--pairs", "{table}", "--d-model", "15"],
            "error: d_model must be a multiple of nhead, 4, got 15",
        ),
        (["train", "{run}", "--pairs", "{table}", "--encoding", "klingon"], "error: unknown encoding: klingon"),
        (["train", "{run}", "--pairs", "{table}", "--held-out", "2"], "error: held_out must be in [0, 1), got 2.0"),
        (
            ["train", "{run}", "--pairs", "{table}", "--seed", str(2**64)],
            "error: seed must be a whole number of 64",
        ),
        (["train", "{run}", "--pairs", "{table}", "--min-count", "999"], "error: min_count must leave a token of"),
    ],
)
def test_errors_are_words(tmp_path, table, capsys, arguments, message):
    filled = [argument.format(run=tmp_path / "run", table=table) for argument in arguments]
    assert main(filled) == 1
    assert capsys.readouterr().err.startswith(message)


def test_bad_arguments_are_told_by_argparse(capsys):
    with pytest.raises(SystemExit):
        main(["train"])
    assert "the following arguments are required: folder" in capsys.readouterr().err


@pytest.mark.slow
def test_as_a_command():
    done = subprocess.run([sys.executable, "-m", "dlnotes.translate", "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in ("train", "translate", "evaluate"):
        assert name in done.stdout


def test_a_run_that_diverges_says_so_and_saves_nothing(tmp_path, table, capsys):
    run = tmp_path / "run"
    assert main(["train", str(run), "--pairs", table, "--epochs", "2", "--lr", "1e30", *SMALL]) == 1
    assert "error: iteration 2 (epoch 1): the loss is " in capsys.readouterr().err
    assert not list(run.iterdir())
