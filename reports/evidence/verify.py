"""Checks an evidence pack: that it is complete and unchanged. Reads a hostile file safely; nothing is extracted."""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final
from zipfile import BadZipFile, ZipFile, ZipInfo

from reports.evidence.manifest import FORMAT, MANIFEST, SAFE_NAME, digest, encode, entry

_CHUNK: Final = 1 << 20
_MAX_DIRECTORY: Final = 1 << 20
_MAX_MANIFEST: Final = 1 << 20
_MAX_RATIO: Final = 200
"""Inventories compress to a tenth; a bomb to a thousandth."""
_RATIO_EXEMPT: Final = 1 << 24
_LOCAL: Final = struct.Struct("<4s22xHH")
_LOCAL_FLAGS: Final = struct.Struct("<6xHH")
_MAX_EXTRA: Final = 64
_END_SIZE, _LOCATOR_SIZE, _END64_SIZE = 22, 20, 56
_METADATA: Final = (
    "date_time",
    "compress_type",
    "create_system",
    "flag_bits",
    "external_attr",
    "internal_attr",
    "comment",
)
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class NotAPackError(Exception):
    """The file is not a pack, or too damaged or hostile to be read further."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a check."""

    problems: list[str]
    digest: str | None = None
    """The SHA-256 of the manifest."""
    files: int = 0


def check(path: Path, expected: str | None = None) -> Result:
    """Check a pack, and that its manifest has the expected SHA-256, if one is given. Memory is bounded."""
    try:
        with path.open("rb") as file:
            return _check(file, expected)
    except NotAPackError as error:
        return Result([str(error)])
    except OSError as error:
        return Result([f"it cannot be read: {error.strerror or error}"])


def _check(file: IO[bytes], expected: str | None) -> Result:
    entries = _entries(file)
    content = b"".join(_content(file, entries[MANIFEST]))
    found, files = digest(content), _files(content)
    problems = []
    if expected not in {None, found}:
        problems.append(f"{MANIFEST} was changed: its SHA-256 is {found}, not {expected}")
    problems += [f"{name} is missing: it was removed or renamed" for name in files if name not in entries]
    for name, info in entries.items():
        if name == MANIFEST:
            continue
        if name not in files:
            problems.append(f"{name} is not in the manifest: it was added or renamed")
        elif info.file_size != files[name]["bytes"]:
            problems.append(f"{name} was changed: it has {info.file_size} bytes, not {files[name]['bytes']}")
        else:
            problems += _changes(file, info, files[name]["sha256"])
    return Result(problems, found, len(files))


def _changes(file: IO[bytes], info: ZipInfo, expected: str) -> Iterator[str]:
    sha256 = hashlib.sha256()
    try:
        for chunk in _content(file, info):
            sha256.update(chunk)
    except NotAPackError as error:
        yield str(error)
        return
    if sha256.hexdigest() != expected:
        yield f"{info.filename} was changed: its SHA-256 is {sha256.hexdigest()}, not {expected}"


def _entries(file: IO[bytes]) -> dict[str, ZipInfo]:
    """The entries by name. Raises NotAPackError unless they are such as a pack has, without gaps between them."""
    size = file.seek(0, os.SEEK_END)
    directory = _directory_size(file, size)
    if directory > _MAX_DIRECTORY:
        raise NotAPackError(f"its directory has {directory} bytes: it is not an evidence pack")
    try:
        with ZipFile(file) as zipped:
            infos, start = zipped.infolist(), zipped.start_dir
    except (BadZipFile, NotImplementedError, UnicodeDecodeError, ValueError, struct.error) as error:
        raise NotAPackError(f"it is not an intact ZIP file: {error}") from error
    if repeated := [name for name, number in Counter(info.filename for info in infos).items() if number > 1]:
        raise NotAPackError(f"{repeated[0]!r} is in it more than once")
    position = 0
    for info in infos:
        if not SAFE_NAME.fullmatch(info.filename):
            raise NotAPackError(f"{info.filename!r} is not the name of a file in a pack; nothing was read")
        regular = entry(info.filename)
        if odd := [name for name in _METADATA if getattr(info, name) != getattr(regular, name)]:
            raise NotAPackError(f"{info.filename} is not an entry of a pack ({', '.join(odd)}); nothing was read")
        if info.header_offset != position:
            raise NotAPackError(
                f"{info.filename} does not follow the entry before it: data is hidden, missing or read twice"
            )
        position = _data_offset(file, info) + info.compress_size
    if position != start:
        raise NotAPackError("data is hidden or missing before its directory")
    if sum(info.file_size for info in infos) > max(_RATIO_EXEMPT, _MAX_RATIO * size):
        raise NotAPackError("its files are too large for its size; nothing was read")
    if MANIFEST not in (found := {info.filename: info for info in infos}):
        raise NotAPackError(f"it has no {MANIFEST}: it is not an evidence pack, or the manifest was removed")
    if found[MANIFEST].file_size > _MAX_MANIFEST:
        raise NotAPackError(f"{MANIFEST} is too large")
    return found


def _directory_size(file: IO[bytes], size: int) -> int:
    """The size of the directory, read before the directory is: it is read into memory at once."""
    file.seek(max(0, size - _END_SIZE - _LOCATOR_SIZE - _END64_SIZE))
    tail = file.read()
    end = tail[-_END_SIZE:]
    if len(end) < _END_SIZE or not end.startswith(b"PK\5\6") or end[-2:] != b"\0\0":
        raise NotAPackError("it does not end as a ZIP file does: it is none, was truncated, or something was appended")
    if tail[-_END_SIZE - _LOCATOR_SIZE :].startswith(b"PK\6\7"):
        return int.from_bytes(tail[40:48], "little")
    return int.from_bytes(end[12:16], "little")


def _data_offset(file: IO[bytes], info: ZipInfo) -> int:
    """Where the data of an entry begins. Raises NotAPackError if its own header differs from the directory."""
    file.seek(info.header_offset)
    header = file.read(_LOCAL.size)
    if len(header) == _LOCAL.size:
        signature, name_size, extra_size = _LOCAL.unpack(header)
        flags, method = _LOCAL_FLAGS.unpack_from(header)
        same = (signature, flags, method) == (b"PK\3\4", info.flag_bits, info.compress_type)
        if same and extra_size <= _MAX_EXTRA and file.read(name_size) == info.filename.encode():
            return int(info.header_offset + len(header) + name_size + extra_size)
    raise NotAPackError(f"{info.filename}: its header differs from the directory")


def _content(file: IO[bytes], info: ZipInfo) -> Iterator[bytes]:
    """Yield the content of an entry, never more than its size. Raises NotAPackError if the data is damaged."""
    file.seek(_data_offset(file, info))
    inflater, left, size, crc = zlib.decompressobj(-zlib.MAX_WBITS), info.compress_size, 0, 0
    try:
        while not inflater.eof:
            data = inflater.unconsumed_tail
            if not data:
                data = file.read(min(left, _CHUNK))
                left -= len(data)
            chunk = inflater.decompress(data, _CHUNK)
            if not data and not chunk:
                break
            size, crc = size + len(chunk), zlib.crc32(chunk, crc)
            if size > info.file_size:
                break
            yield chunk
    except zlib.error as error:
        raise NotAPackError(f"{info.filename} was changed: its data is damaged") from error
    if not inflater.eof or inflater.unused_data or left or (size, crc) != (info.file_size, info.CRC):
        raise NotAPackError(f"{info.filename} was changed: its data does not have the stated size or checksum")


def _files(content: bytes) -> dict[str, Any]:
    """The files of a manifest. Raises NotAPackError unless it is one, in its only form."""
    try:
        manifest = json.loads(content)
        if encode(manifest) == content and manifest["format"] == FORMAT:
            files: dict[str, Any] = manifest["files"]
            if all(_SHA256.fullmatch(file["sha256"]) and isinstance(file["bytes"], int) for file in files.values()):
                return files
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise NotAPackError(f"{MANIFEST} is not the manifest of an evidence pack of this version, or was changed")
