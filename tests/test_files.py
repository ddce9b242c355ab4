import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from dlnotes.checkpoint import CheckpointError, load, save
from dlnotes.files import PREFIX, ask_the_disk, prepare, replacing

ROOT = Path(__file__).parents[1]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the system is not Linux")
ROUNDS = int(os.environ.get("DLNOTES_DAMAGE", "1"))


def write(path, text):
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def python(code, *arguments, **options):
    """A process that runs the code."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    command = [*options.pop("before", []), sys.executable, "-c", code, *map(str, arguments)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=environment, text=True, **pipes, **options)


def result(process):
    """What it printed, when it has ended well."""
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out.strip()


def test_content_is_replaced_and_nothing_is_left(tmp_path):
    path = tmp_path / "new" / "a.txt"
    write(path, "first")
    write(path, "second")
    assert path.read_text() == "second"
    assert os.listdir(path.parent) == ["a.txt"]


def test_an_error_leaves_the_old_content(tmp_path):
    path = tmp_path / "a.txt"
    write(path, "old")
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), replacing(path) as temporary:
            temporary.write_text("half")
            raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_file_then_folder_are_forced_to_disk(tmp_path, monkeypatch):
    order, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda fd: (order.append("folder" if os.path.isdir(f"/dev/fd/{fd}") else "file"), fsync(fd))
    )
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("rename"), replace(a, b)))
    write(tmp_path / "a.txt", "x")
    assert order == ["file", "rename", "folder"]


@pytest.mark.parametrize("mode", [0o640, 0o600, 0o664])
def test_mode_is_kept_and_is_there_before_the_content(tmp_path, mode):
    path = tmp_path / "a.txt"
    write(path, "old")
    path.chmod(mode)
    with replacing(path) as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) == mode  # no moment in which others could read it
        temporary.write_text("new")
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_a_new_file_follows_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write(tmp_path / "a.txt", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == mode


def test_a_symbolic_link_stays_one(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    target, link, dangling = tmp_path / "elsewhere" / "a.txt", tmp_path / "link", tmp_path / "dangling"
    target.write_text("old")
    link.symlink_to("elsewhere/a.txt")
    dangling.symlink_to("elsewhere/b.txt")
    write(link, "new")
    write(dangling, "made")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert (tmp_path / "elsewhere" / "b.txt").read_text() == "made"
    assert sorted(os.listdir(tmp_path)) == ["dangling", "elsewhere", "link"]
    target.unlink()
    target.symlink_to(link)  # now a circle
    with pytest.raises(OSError):  # noqa: PT011 - the number depends on the system
        write(link, "lost")


def test_what_is_no_file_of_ones_own_is_not_replaced(tmp_path, monkeypatch):
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        write(tmp_path, "x")
    os.mkfifo(tmp_path / "pipe")
    for special in (tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(OSError, match="not a regular file"):
            write(special, "x")
        assert special.exists()
    path = tmp_path / "a.txt"
    write(path, "old")
    path.chmod(0o444)
    monkeypatch.setattr(os, "access", lambda *_: False)  # what a user is told; the superuser may write anything
    with pytest.raises(PermissionError, match="write-protected"):
        write(path, "new")
    assert path.read_text() == "old"


def test_an_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises((FileExistsError, NotADirectoryError)):
        prepare(tmp_path / "file")
    if sys.platform == "linux":
        with pytest.raises(OSError, match=r"'/proc/self/fdinfo'$"):
            prepare("/proc/self/fdinfo")
    prepare(tmp_path / "a" / "b")
    assert os.listdir(tmp_path / "a" / "b") == []


WRITER = """
import sys
from dlnotes.files import replacing
with replacing(sys.argv[1]) as temporary:
    temporary.write_text("from another process")
    print(temporary.name, flush=True)
    sys.stdin.read()
"""


def test_the_next_writer_sweeps_what_the_dead_left_and_no_more(tmp_path):
    living, dead = python(WRITER, tmp_path / "a.txt"), python(WRITER, tmp_path / "a.txt")
    names = [process.stdout.readline().strip() for process in (living, dead)]
    assert sorted(os.listdir(tmp_path)) == sorted(names)
    dead.kill()
    dead.communicate()
    similar = [f"{PREFIX}notes", f"{PREFIX}{'0' * 16}.pt", f"my-{PREFIX}{'0' * 16}"]
    for name in similar:
        (tmp_path / name).write_text("a user's own")
    with replacing(tmp_path / "b.txt") as mine:  # a writer in this thread is alive, too
        mine.write_text("x")
        prepare(tmp_path)
        assert sorted(os.listdir(tmp_path)) == sorted([names[0], mine.name, *similar])
    result(living)
    assert (tmp_path / "a.txt").read_text() == "from another process"
    assert sorted(os.listdir(tmp_path)) == sorted(["a.txt", "b.txt", *similar])


def test_a_file_swept_before_it_was_locked_is_made_again(tmp_path, monkeypatch):
    from dlnotes import files

    locks = []

    def lock(file, how):
        if not locks:  # the sweep of another writer comes first
            next(tmp_path.glob(f"{PREFIX}*")).unlink()
        locks.append(how)

    monkeypatch.setattr(files.fcntl, "flock", lock)
    write(tmp_path / "a.txt", "x")
    assert len(locks) == 2
    assert os.listdir(tmp_path) == ["a.txt"]


def test_without_locks_nothing_is_swept(tmp_path, monkeypatch):
    from dlnotes import files

    leftover = tmp_path / f"{PREFIX}{'0' * 16}"
    leftover.write_text("")
    with monkeypatch.context() as patch:
        patch.setattr(files.fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOLCK, "no locks")))
        write(tmp_path / "a.txt", "x")
        assert leftover.exists()
    write(tmp_path / "a.txt", "y")
    assert not leftover.exists()


def test_threads_that_write_one_file_do_not_damage_it(tmp_path):
    path, faults, done = tmp_path / "a.pt", [], threading.Event()

    def run(action):
        try:
            action()
        except Exception as error:
            faults.append(error)

    def writer(number):
        for _ in range(15 * ROUNDS):
            save(path, {"w": torch.full((1000 * number + 1,), float(number))})

    def reader():
        while not done.is_set():
            w = load(path)["w"]
            assert len(w) == 1000 * int(w[0]) + 1

    save(path, {"w": torch.zeros(1)})
    writers = [threading.Thread(target=run, args=(lambda n=n: writer(n),)) for n in range(4)]
    readers = [threading.Thread(target=run, args=(reader,)) for _ in range(2)]
    for thread in writers + readers:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in readers:
        thread.join()
    assert faults == []
    assert os.listdir(tmp_path) == ["a.pt"]


SAVER = """
import os, sys, torch
from dlnotes.checkpoint import load, save
number = int(sys.argv[2])
sys.stdin.readline()
for _ in range(int(sys.argv[3])):
    save(sys.argv[1], {"w": torch.full((1000 * number + 1,), float(number))})
    w = load(sys.argv[1])["w"]
    assert len(w) == 1000 * int(w[0]) + 1
print(os.getpid())
"""


def own_pids():
    """The command that gives a process its own process numbers, as a container has them; None where it is refused."""
    command = ["unshare", "--pid", "--fork", "--kill-child"]
    found = shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True).returncode == 0
    return command if found else None


@pytest.mark.parametrize("containers", [False, True])
def test_processes_that_write_one_file_do_not_damage_it(tmp_path, containers):
    before = own_pids() if containers else []
    if before is None:
        pytest.skip("process numbers cannot be unshared here")
    processes = [python(SAVER, tmp_path / "a.pt", n, 25 * ROUNDS, before=before) for n in range(2)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    pids = {result(process) for process in processes}
    assert pids == {"1"} if containers else len(pids) == 2
    assert os.listdir(tmp_path) == ["a.pt"]
    load(tmp_path / "a.pt")


LIMITED = """
import os, resource, sys, torch
from dlnotes.checkpoint import load, save
save(sys.argv[1], {"w": torch.zeros(10)})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for count in (24_000, 26_000, 100_000, 3_000_000):
    try:
        save(sys.argv[1], {"w": torch.zeros(count), "v": torch.zeros(count)})
    except OSError as error:
        print(error.errno, error.filename == sys.argv[1], os.listdir(os.path.dirname(sys.argv[1])))
print(len(load(sys.argv[1])["w"]))
"""


@LINUX
def test_a_file_that_may_grow_no_more_is_the_systems_own_error(tmp_path):
    lines = result(python(LIMITED, tmp_path / "a.pt")).splitlines()
    assert lines == [f"{errno.EFBIG} True ['a.pt']"] * 4 + ["10"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_said_and_leaves_the_good_file(small_disk):
    path = small_disk / "检查点.pt"
    save(path, {"w": torch.zeros(10)})
    before = path.read_bytes()
    for count in range(243_000, 263_000, 2000):  # the disk ends in the second tensor, between the two, in the first
        with pytest.raises(OSError, match="No space left on device") as caught:
            save(path, {"w": torch.zeros(count), "v": torch.zeros(20_000)})
        assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
        assert path.read_bytes() == before
        assert os.listdir(small_disk) == [path.name]
        free = os.statvfs(small_disk)  # though the error at hand still holds what torch had open
        assert free.f_bavail * free.f_frsize > 1_000_000


def test_a_failed_write_on_a_disk_with_room_is_no_disk_error(tmp_path, monkeypatch):
    ask_the_disk(tmp_path / "a", tmp_path / "b")

    def broken(*_):
        raise RuntimeError("unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(CheckpointError, match=r"cannot be saved: unexpected pos"):
        save(tmp_path / "c.pt", {})


INTERRUPTED = """
import os, signal, sys, torch
from dlnotes.checkpoint import load, save

def interrupt(*_):
    global inside
    if inside:
        inside = False
        raise KeyboardInterrupt

path, inside, seen, made = sys.argv[1], False, 0, 0
state = {"w": [torch.randn(2000) for _ in range(30)]}
save(path, state)
signal.signal(signal.SIGINT, interrupt)
print("ready", flush=True)
while not os.path.exists(path + ".stop"):
    try:
        inside = True
        save(path, state)
        inside = False
        made += 1
    except KeyboardInterrupt:
        seen += 1
    inside = False
    assert len(load(path)["w"]) == 30
print(seen)
"""


@pytest.mark.parametrize("name", ["a.pt", "检查点/a.pt"])  # torch writes names beyond ASCII in another way
def test_ctrl_c_ends_a_save_and_nothing_else(tmp_path, name):
    path = tmp_path / name
    process = python(INTERRUPTED, path)
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    for number in range(60 * ROUNDS):
        time.sleep(0.001 * (number % 17 + 1))
        process.send_signal(signal.SIGINT)
    path.with_name("a.pt.stop").touch()
    assert int(result(process)) > 0
    assert sorted(os.listdir(path.parent)) == ["a.pt", "a.pt.stop"]
