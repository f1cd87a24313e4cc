"""`kmsledger verify` detects every change of a pack, and reads hostile files safely."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import pytest
from click.testing import CliRunner, Result

from reports.evidence import cli
from reports.evidence.manifest import MANIFEST, digest, encode, entry
from reports.evidence.verify import check
from tests.reports.test_start_up import HEAVY, PROGRAM, ROOT

NAME = "controls.csv"
Entries = dict[str, tuple[ZipInfo, bytes]]
Change = Callable[[Entries], object]


def entries_of(path: Path) -> Entries:
    with ZipFile(path) as zipped:
        return {info.filename: (entry(info.filename), zipped.read(info)) for info in zipped.infolist()}


def write(path: Path, entries: Iterator[tuple[ZipInfo, bytes]]) -> Path:
    """Write entries as a pack has them."""
    with ZipFile(path, "w") as zipped:
        for info, content in entries:
            with zipped.open(info, "w", force_zip64=True) as out:
                out.write(content)
    return path


def verify(path: Path, *options: str) -> Result:
    return CliRunner().invoke(cli.verify, [str(path), *options])


def digest_of(path: Path) -> str:
    return digest(entries_of(path)[MANIFEST][1])


def rename(entries: Entries, old: str, new: str) -> None:
    """Rename an entry in place."""
    for name, value in list(entries.items()):
        del entries[name]
        entries[new if name == old else name] = (entry(new), value[1]) if name == old else value


def swap(entries: Entries) -> None:
    first, second = "controls/01-AC-2.csv", "controls/05-SC-12.csv"
    entries[first], entries[second] = (entry(first), entries[second][1]), (entry(second), entries[first][1])


def edit(entries: Entries, name: str, old: bytes, new: bytes) -> None:
    info, content = entries[name]
    assert old in content
    entries[name] = info, content.replace(old, new, 1)


def with_attribute(entries: Entries, name: str, **values: object) -> None:
    for attribute, value in values.items():
        setattr(entries[name][0], attribute, value)


def add(entries: Entries, name: str) -> None:
    entries[name] = entry(name), b"x"


CHANGES: dict[str, tuple[Change, str]] = {
    "content of equal length": (lambda e: edit(e, NAME, b'"fail"', b'"pass"'), f"{NAME} was changed: its SHA-256"),
    "content of other length": (lambda e: edit(e, NAME, b'"fail"', b'""'), f"{NAME} was changed: it has"),
    "a row removed": (lambda e: edit(e, "waivers.csv", b'"key-rotation"', b""), "waivers.csv was changed"),
    "emptied": (lambda e: e.update({NAME: (entry(NAME), b"")}), f"{NAME} was changed"),
    "swapped": (swap, "controls/01-AC-2.csv was changed"),
    "removed": (lambda e: e.pop(NAME), f"{NAME} is missing"),
    "added": (lambda e: add(e, "controls/99-X.csv"), "controls/99-X.csv is not in the manifest"),
    "renamed": (lambda e: rename(e, NAME, "control.csv"), "control.csv is not in the manifest"),
    "manifest removed": (lambda e: e.pop(MANIFEST), "it has no manifest.json"),
    "manifest emptied": (lambda e: e.update({MANIFEST: (entry(MANIFEST), b"")}), "is not the manifest"),
    "manifest reformatted": (lambda e: edit(e, MANIFEST, b"\n", b"\n "), "is not the manifest"),
    "manifest of another format": (lambda e: edit(e, MANIFEST, b"evidence/1", b"evidence/2"), "is not the manifest"),
    "manifest without a file": (lambda e: edit(e, MANIFEST, b'"waivers.csv"', b'"x.csv"'), "x.csv is missing"),
    "manifest that is a list": (lambda e: e.update({MANIFEST: (entry(MANIFEST), b"[]\n")}), "is not the manifest"),
    "manifest nested deeply": (
        lambda e: e.update({MANIFEST: (entry(MANIFEST), b"[" * 100_000)}),
        "is not the manifest",
    ),
    "path traversal": (lambda e: add(e, "../../etc/passwd"), "nothing was read"),
    "absolute path": (lambda e: add(e, "/etc/passwd"), "nothing was read"),
    "backslashes": (lambda e: add(e, "..\\x.csv"), "nothing was read"),
    "drive": (lambda e: add(e, "C:x.csv"), "nothing was read"),
    "control characters": (lambda e: add(e, "x\x1b[2J.csv"), "nothing was read"),
    "directory": (lambda e: add(e, "controls/"), "nothing was read"),
    "symlink": (lambda e: with_attribute(e, NAME, external_attr=0o120777 << 16), "external_attr"),
    "device": (lambda e: with_attribute(e, NAME, external_attr=0o020666 << 16), "external_attr"),
    "other time": (lambda e: with_attribute(e, NAME, date_time=(2026, 1, 1, 0, 0, 0)), "date_time"),
    "stored": (lambda e: with_attribute(e, NAME, compress_type=ZIP_STORED), "compress_type"),
    "comment": (lambda e: with_attribute(e, NAME, comment=b"x"), "comment"),
}


def test_an_intact_pack_is_confirmed_with_its_digest(pack: Path) -> None:
    """Exit code 0 and one sentence, with the SHA-256 of the manifest that was printed when the pack was written."""
    done = verify(pack, "--digest", digest_of(pack).upper())
    assert done.exit_code == 0
    assert done.output == f"{pack} is intact: 18 files; SHA-256 of the manifest {digest_of(pack)}\n"


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_pack_is_detected(name: str, pack: Path, tmp_path: Path) -> None:
    """Exit code 1, and a line that names the problem, whatever was changed."""
    change, expected = CHANGES[name]
    entries = entries_of(pack)
    change(entries)
    done = verify(write(tmp_path / "x.zip", iter(entries.values())))
    assert done.exit_code == 1
    assert done.stdout == ""
    assert expected in done.stderr
    assert "\x1b" not in done.stderr
    assert done.stderr.count("\n") == len(check(tmp_path / "x.zip").problems)


def test_every_problem_has_a_line(pack: Path, tmp_path: Path) -> None:
    """All changed, missing and added files are reported at once."""
    entries = entries_of(pack)
    rename(entries, "gaps.csv", "gap.csv")
    edit(entries, NAME, b'"fail"', b'"pass"')
    found = [problem.split()[0] for problem in check(write(tmp_path / "x.zip", iter(entries.values()))).problems]
    assert found == ["gaps.csv", NAME, "gap.csv"]


def test_a_manifest_that_agrees_with_changed_files_is_detected_by_its_digest(pack: Path, tmp_path: Path) -> None:
    """A file and its digest in the manifest can both be replaced; then only the digest of the manifest differs."""
    entries = entries_of(pack)
    edit(entries, NAME, b'"fail"', b'"pass"')
    manifest = json.loads(entries[MANIFEST][1])
    manifest["files"][NAME]["sha256"] = digest(entries[NAME][1])
    entries[MANIFEST] = entry(MANIFEST), encode(manifest)
    changed = write(tmp_path / "x.zip", iter(entries.values()))
    assert verify(changed).exit_code == 0
    done = verify(changed, "--digest", digest_of(pack))
    assert (done.exit_code, done.stdout) == (1, "")
    assert "manifest.json was changed" in done.stderr


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_duplicate_name_is_refused(pack: Path, tmp_path: Path) -> None:
    """Programs differ in which of two files with one name they show."""
    entries = list(entries_of(pack).values())
    done = verify(write(tmp_path / "x.zip", iter([*entries, (entry(NAME), b"other")])))
    assert done.exit_code == 1
    assert f"{NAME!r} is in it more than once" in done.stderr


def _with_hidden(data: bytes) -> bytes:
    """Insert bytes between the last entry and the directory, which the end still finds."""
    start = int.from_bytes(data[-6:-2], "little")
    return data[:start] + b"secret" + data[start:-6] + (start + 6).to_bytes(4, "little") + data[-2:]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "truncated by a byte": lambda data: data[:-1],
    "truncated by half": lambda data: data[: len(data) // 2],
    "empty": lambda _: b"",
    "another file": lambda _: b"PK\3\4" * 100,
    "only an end": lambda data: data[-22:],
    "appended": lambda data: data + b"x",
    "prepended": lambda data: b"#!/bin/sh\n" + data,
    "a second pack in front": lambda data: data + data,
    "encrypted": lambda data: data.replace(b"PK\1\2\x2d\3\x2d\0\0\0", b"PK\1\2\x2d\3\x2d\0\1\0"),
    "a comment": lambda data: data[:-2] + b"\1\0x",
    "a comment that is not there": lambda data: data[:-2] + b"\5\0",
    "hidden before the directory": _with_hidden,
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_is_detected(name: str, pack: Path, tmp_path: Path) -> None:
    """A truncated, extended, encrypted or foreign file is refused with exit code 1 and one line."""
    data = DAMAGES[name](pack.read_bytes())
    assert data != pack.read_bytes()
    (tmp_path / "x.zip").write_bytes(data)
    done = verify(tmp_path / "x.zip")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1


def test_a_large_directory_is_not_read(tmp_path: Path) -> None:
    """The directory of a ZIP file is read into memory at once, so its size is checked before."""
    with ZipFile(path := tmp_path / "x.zip", "w") as zipped:
        for number in range(7_000):
            zipped.writestr(f"{number:0120d}", b"")
    assert check(path).problems[0].startswith("its directory has 1162000 bytes")
    data = path.read_bytes()
    end64 = b"PK\6\6" + b"\0" * 36 + (1 << 40).to_bytes(8, "little") + b"\0" * 8 + b"PK\6\7" + b"\0" * 16
    path.write_bytes(data[:-22] + end64 + b"PK\5\6" + b"\0" * 18)
    assert check(path).problems[0].startswith(f"its directory has {1 << 40} bytes")


def test_a_flipped_bit_is_never_taken_for_another_content(pack: Path, tmp_path: Path) -> None:
    """After damage anywhere in the file, the check reports a problem, or what it read is what was written; it never fails."""
    data, path = pack.read_bytes(), tmp_path / "x.zip"
    intact = check(pack)
    undetected = []
    with path.open("wb", buffering=0) as out:
        out.write(data)
        for at in [*range(0, len(data) - 3000, 211), *range(len(data) - 3000, len(data), 7)]:
            os.pwrite(out.fileno(), bytes([data[at] ^ 1 << at % 8]), at)
            result = check(path)
            os.pwrite(out.fileno(), data[at : at + 1], at)
            if not result.problems:
                assert result == intact
                undetected.append(at)
    # What is left are fields of headers that a reader ignores.
    assert len(undetected) < 100


def test_data_behind_the_end_of_a_compressed_stream_is_detected(pack: Path, tmp_path: Path) -> None:
    """Nothing can be hidden inside an entry: its data ends where the compressed stream ends."""
    entries = entries_of(pack)
    with ZipFile(path := tmp_path / "x.zip", "w") as zipped:
        for info, content in entries.values():
            with zipped.open(info, "w", force_zip64=True) as out:
                out.write(content)
                if info.filename == NAME:
                    hidden = out._compressor.flush() + b"hidden"  # type: ignore[attr-defined]
                    out._compressor = zlib.compressobj(9, zlib.DEFLATED, -15)  # type: ignore[attr-defined]
                    zipped.fp.write(hidden)  # type: ignore[union-attr]
                    out._compress_size += len(hidden)  # type: ignore[attr-defined]
    assert [problem.split(":")[0] for problem in check(path).problems] == [f"{NAME} was changed"]


@pytest.mark.parametrize("stated", [True, False], ids=["size stated", "size not stated"])
def test_a_bomb_is_refused(stated: bool, pack: Path, tmp_path: Path) -> None:
    """A file that is far larger than a pack of its size is not read; one that hides its size is read up to that size."""
    entries, path = entries_of(pack), tmp_path / "x.zip"
    bomb = bytes(40_000_000)
    del entries[NAME]
    manifest = entries.pop(MANIFEST)
    write(path, iter([*entries.values(), (entry(NAME), bomb), manifest]))
    if not stated:
        size = len(entries_of(pack)[NAME][1]).to_bytes(4, "little")
        path.write_bytes(path.read_bytes().replace(len(bomb).to_bytes(4, "little"), size))
    tracemalloc.start()
    problems = check(path).problems
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    expected = "its files are too large for its size; nothing was read" if stated else f"{NAME} was changed"
    assert problems[0].startswith(expected)
    assert peak < 8_000_000


def test_wrong_usage_is_no_verdict(pack: Path, tmp_path: Path) -> None:
    """Exit code 2 for a missing file and for a digest that is none: neither says anything about the pack."""
    assert verify(tmp_path / "missing.zip").exit_code == 2
    assert verify(tmp_path).exit_code == 2
    assert verify(pack, "--digest", "abc").exit_code == 2
    assert verify(pack, "--digest", "g" * 64).exit_code == 2


def test_a_check_needs_no_database(pack: Path) -> None:
    """An auditor's check loads neither DuckDB nor the settings."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, ",".join(HEAVY), "verify", str(pack)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stderr.split() == ["loaded"]


def test_an_empty_zip_file_is_not_a_pack(tmp_path: Path) -> None:
    """A ZIP file without entries is valid, but no pack."""
    buffer = io.BytesIO()
    ZipFile(buffer, "w").close()
    (tmp_path / "x.zip").write_bytes(buffer.getvalue())
    assert check(tmp_path / "x.zip").problems == [
        "it has no manifest.json: it is not an evidence pack, or the manifest was removed"
    ]
