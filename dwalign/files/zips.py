"""Places of members in a zip, and their checksums when they were filled in after it was written."""

import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, NamedTuple

CHUNK = 1 << 24


class Member(NamedTuple):
    """Attributes:
    begin, size: where in the file its bytes lie, as they are if it is not packed.
    checksum: of these bytes, 0 where it was left out or is of what was packed.
    """

    begin: int
    size: int
    checksum: int


def infos(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """All members, as many as the archive says it has: `zipfile` passes over one that a damaged length swallows.

    Raises:
      BadZipFile: there are fewer, or more.
    """
    found, handle = archive.infolist(), archive.fp
    assert handle is not None
    handle.seek(-12 - len(archive.comment), 2)
    (said,) = struct.unpack("<H", handle.read(2))
    if said not in (len(found), 0xFFFF):  # more than fit are counted elsewhere
        raise zipfile.BadZipFile(f"{said} members are said to be there, and {len(found)} are")
    return found


def members(file: Path) -> dict[str, Member]:
    """All that are not empty, by name."""
    with zipfile.ZipFile(file) as archive, file.open("rb") as handle:
        kept = [info for info in infos(archive) if info.file_size]
        return {
            info.filename: Member(
                _begin(handle, info), info.file_size, info.CRC * (info.compress_type == zipfile.ZIP_STORED)
            )
            for info in kept
        }


def seal(file: Path) -> None:
    """Put right the checksums that are wrong: torch leaves out those of numbers it did not see, others check them.

    A zip has a header before each member, perhaps a descriptor behind it, and an entry for it at the end (PKWARE's
    APPNOTE.TXT).
    """
    with zipfile.ZipFile(file) as archive, file.open("r+b") as handle:
        entry = archive.start_dir  # a zip ends with an entry for each member, in their order
        for info in archive.infolist():
            begin = _begin(handle, info)
            handle.seek(begin)
            checksum = 0
            for start in range(0, info.file_size, CHUNK):
                checksum = zlib.crc32(handle.read(min(CHUNK, info.file_size - start)), checksum)
            beside = begin + info.file_size + 4 if info.flag_bits & 8 else info.header_offset + 14
            for place in (beside, entry + 16) if checksum != info.CRC else ():
                handle.seek(place)
                handle.write(struct.pack("<I", checksum))
            handle.seek(entry + 28)
            entry += 46 + sum(struct.unpack("<3H", handle.read(6)))


def _begin(handle: IO[bytes], info: zipfile.ZipInfo) -> int:
    handle.seek(info.header_offset + 26)
    return info.header_offset + 30 + sum(struct.unpack("<2H", handle.read(4)))
