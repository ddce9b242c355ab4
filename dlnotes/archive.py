r"""The archives that torch.save writes: every entry compared with its checksum before torch reads it."""

import io
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import Any

PLAIN_FLAGS = 0x808  # a name in UTF-8 and a length after the data: what torch sets, and all that it sets
LARGE = 1 << 24  # bytes; the entries of smaller files are checked sooner than threads are started


class Damaged(Exception):
    r"""An archive is not as torch.save wrote it; the message says in what.

    >>> raise Damaged("its entries overlap")
    Traceback (most recent call last):
    ...
    dlnotes.archive.Damaged: its entries overlap
    """


def check(file: io.BufferedIOBase) -> Callable[[Any, str], Any]:
    r"""Compare every entry with its checksum; refuse entries that are not as torch writes them.

    Returns a ``map_location`` that leaves tensors on the CPU and refuses one as long as no entry: torch 2.6 reads on
    beyond an entry if a crafted file says so.

    Raises:
        Damaged: the archive is not as torch.save wrote it.
        zipfile.BadZipFile: it is no archive.

    >>> import torch
    >>> file = io.BytesIO()
    >>> torch.save({"w": torch.ones(2)}, file)
    >>> place, _ = check(file), file.seek(0)
    >>> torch.load(file, map_location=place)
    {'w': tensor([1., 1.])}
    """
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        names = {entry.filename.partition("/")[2] for entry in entries}
        if "data.pkl" not in names:
            raise Damaged(f"{'a' if entries else 'an empty'} zip archive, but not one of torch.save")
        if "constants.pkl" in names:
            raise Damaged("a TorchScript program; save its state_dict() with torch.save")
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                raise Damaged(f"refused, because {entry.filename} is compressed; torch.save never does that")
            if entry.external_attr or entry.flag_bits & ~PLAIN_FLAGS:  # torch's reader would skip such an entry
                raise Damaged(f"damaged, or not written by torch.save ({entry.filename} has attributes)")
        size = sum(entry.file_size for entry in entries)
        if size > file.seek(0, io.SEEK_END):
            raise Damaged("damaged: its entries overlap")

        compare = partial(_compare, file, Lock())
        if size > LARGE:
            with ThreadPoolExecutor() as threads:
                list(threads.map(compare, entries))
        else:
            for entry in entries:
                compare(entry)

    lengths = {entry.file_size for entry in entries}

    def place(storage: Any, _location: str) -> Any:
        if storage.nbytes() not in lengths:
            raise Damaged("damaged: a tensor is longer or shorter than its entry")
        return storage

    return place


def _compare(file: io.BufferedIOBase, alone: Lock, entry: zipfile.ZipInfo) -> None:
    r"""Compare an entry with its checksum, which torch.load does not; zipfile would, at ten times the cost."""

    def read(size: int, place: int) -> bytes:
        with alone:
            file.seek(place)
            return file.read(size)

    name = entry.filename.encode("utf-8" if entry.flag_bits & 0x800 else "cp437")
    head = read(30 + len(name), entry.header_offset)
    if head[:4] != b"PK\x03\x04" or head[30:] != name or int.from_bytes(head[26:28], "little") != len(name):
        raise Damaged(f"damaged (the header of {entry.filename} is wrong)")
    place = entry.header_offset + len(head) + int.from_bytes(head[28:30], "little")
    checksum, left = 0, entry.file_size
    while left and (part := read(min(left, 1 << 20), place)):
        checksum, left, place = zlib.crc32(part, checksum), left - len(part), place + len(part)
    if left or checksum != entry.CRC:
        record = entry.filename.partition("/")[2]
        raise Damaged(f"damaged (the checksum of {record} is wrong)")
