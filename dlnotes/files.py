r"""Files written whole or not at all: whoever opens the path finds the old content or the new one, never a part."""

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Generator
from io import FileIO
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no such locks; leftovers stay there
    fcntl = None

PREFIX = "checkpoint.tmp-"  # torch names the folder inside its archive after what stands before the last dot


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Generator[Path]:
    r"""Give a temporary file to write in place of ``path``; it takes the path's place when the block ends well.

    The temporary file stands beside ``path`` under a name of its own, so writers in other threads, processes or
    containers never share one: the last to finish wins. At the end it is forced to disk and renamed. After an error
    it is deleted, and what stood at ``path`` is untouched. A writer that was killed leaves its temporary file: the
    next one in that folder deletes it. Who lives is told by a lock (``flock``), which the system drops with its
    owner; where a file system has no locks, leftovers stay.

    The folder is made if it is missing. A symbolic link stays one, and the file it names is replaced. The mode of a
    file that is replaced is kept, its owner and group where the system allows it; a new file's follow the umask.

    Raises:
        IsADirectoryError: ``path`` is a folder.
        OSError: ``path`` is write-protected or no regular file, the folder cannot be written, or the disk refuses.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "a.txt")
    ...     with replacing(path) as temporary:
    ...         _ = temporary.write_text("new")
    ...     path.read_text(), [file.name for file in path.parent.iterdir()]
    ('new', ['a.txt'])
    """
    target = Path(os.path.realpath(path))
    try:
        old = target.stat()
    except FileNotFoundError:
        old = None
    if old is not None:
        if stat.S_ISDIR(old.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(old.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, "write-protected", str(path))
    with _temporary(target.parent) as (temporary, file):
        if old is not None:
            _take_over(file, old)
        yield temporary
        os.fsync(file.fileno())
        if fcntl is None:
            file.close()  # Windows renames no open file
        os.replace(temporary, target)
    _sync(target.parent)


def prepare(folder: str | os.PathLike[str]) -> None:
    r"""Make ``folder``, delete what killed writers left in it, and make sure that files can be written there.

    For the start of a long run, which would otherwise learn at its first write that it cannot.

    Raises:
        OSError: the folder cannot be made or written, or something at its path is no folder.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     prepare(folder + "/runs/first")
    ...     os.listdir(folder + "/runs")
    ['first']
    """
    with _temporary(Path(folder)):
        pass


@contextlib.contextmanager
def ascii_name(path: Path) -> Generator[str]:
    r"""A name in ASCII for ``path``, where the system can give one (Linux); else its own.

    Under any other name ``torch.save`` writes through a Python file, and there Ctrl-C can end the process.

    >>> with ascii_name(Path("/tmp/a.pt")) as name:
    ...     name
    '/tmp/a.pt'
    """
    if str(path).isascii() or not os.path.isdir("/proc/self/fd"):
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def ask_the_disk(temporary: Path, path: str | os.PathLike[str]) -> None:
    r"""After a failed write to ``temporary``: raise what the system says, if it lets no more be written.

    PyTorch tells of a full disk in words like ``unexpected pos 1801920 vs 1801872``.

    Raises:
        OSError: the system's own, for ``path``: no space left, quota exceeded, file too large, read or write error.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ask_the_disk(Path(folder, "a.tmp"), "a.pt")  # there is room, so it was something else
    """
    try:
        with temporary.open("ab", buffering=0) as file:
            for _ in range(16):
                file.write(bytes(1 << 16))
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


@contextlib.contextmanager
def _temporary(folder: Path) -> Generator[tuple[Path, FileIO]]:
    r"""A new file in ``folder``, locked and open; if it still has its name at the end, it is deleted."""
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    path, file = _create(folder)
    with file:  # closing it drops the lock, and not before it has been renamed or deleted
        try:
            yield path, file
        finally:
            if path.exists():  # it was not renamed
                with contextlib.suppress(OSError):  # the space is given back even while a traceback holds the file open
                    file.truncate(0)
                if fcntl is None:
                    file.close()
                path.unlink(missing_ok=True)


def _create(folder: Path) -> tuple[Path, FileIO]:
    while True:
        path = folder / f"{PREFIX}{secrets.token_hex(8)}"
        try:
            file = FileIO(path, "x+")
        except OSError as error:  # named after the folder: the temporary name would tell the reader nothing
            raise OSError(error.errno, error.strerror, str(folder)) from None
        if fcntl is not None:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
        if path.exists():
            return path, file
        file.close()  # a sweep came between making and locking


def _sweep(folder: Path) -> None:
    r"""Delete the temporary files in ``folder`` that nobody holds a lock on."""
    if fcntl is None:
        return
    for entry in os.scandir(folder):
        if re.fullmatch(f"{re.escape(PREFIX)}[0-9a-f]{{16}}", entry.name) and entry.is_file(follow_symlinks=False):
            # Locked by its writer, deleted meanwhile, or not ours to open: left alone.
            with contextlib.suppress(OSError), FileIO(entry.path, "r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(entry.path)


def _take_over(file: FileIO, old: os.stat_result) -> None:
    for owner in (old.st_uid, -1):  # the superuser may give files away; others only change the group
        with contextlib.suppress(PermissionError, AttributeError):
            os.fchown(file.fileno(), owner, old.st_gid)
            break
    with contextlib.suppress(AttributeError):  # before Python 3.13 not on Windows
        os.fchmod(file.fileno(), stat.S_IMODE(old.st_mode) | stat.S_IRUSR | stat.S_IWUSR)


def _sync(folder: Path) -> None:
    r"""Force a rename to disk, where the system can: some network file systems and Windows cannot."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
