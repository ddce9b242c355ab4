"""Archives are compared with their checksums, entry by entry, and what is wrong is named."""

import io
import zipfile

import pytest
import torch

from dlnotes.archive import Damaged, check


def archive(**state):
    """What torch.save writes."""
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def entry(whole, name):
    """Where the header of an entry begins."""
    with zipfile.ZipFile(io.BytesIO(whole)) as opened:
        return next(found.header_offset for found in opened.infolist() if found.filename.endswith(name))


def test_every_byte_of_an_entry_counts():
    whole = archive(w=torch.arange(1000.0))
    with zipfile.ZipFile(io.BytesIO(whole)) as opened:
        place = opened.open("archive/data/0").read()
    start = whole.index(place)
    for at in (start, start + 1999, start + len(place) - 1):
        damaged = bytearray(whole)
        damaged[at] ^= 1
        with pytest.raises(Damaged, match=r"checksum of data/0 is wrong"):
            check(io.BytesIO(damaged))


@pytest.mark.parametrize("at", [0, 26, 27, 30])  # the mark, the length of the name, the name
def test_an_entry_has_the_name_that_the_directory_gives_it(at):
    damaged = bytearray(archive(w=torch.ones(3)))
    damaged[entry(damaged, "data/0") + at] ^= 1
    with pytest.raises(Damaged, match=r"header of archive/data/0 is wrong"):
        check(io.BytesIO(damaged))


def test_large_archives_are_compared_by_several_threads():
    whole = bytearray(archive(a=torch.zeros(3_000_000), b=torch.ones(3_000_000)))
    check(io.BytesIO(whole))
    whole[entry(whole, "data/1") + 5_000_000] ^= 64
    with pytest.raises(Damaged, match=r"checksum of data/1 is wrong"):
        check(io.BytesIO(whole))


def test_something_else_is_no_archive():
    with pytest.raises(zipfile.BadZipFile):
        check(io.BytesIO(b"PK but no more"))
