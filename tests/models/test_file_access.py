"""Files are readable for their user only, whatever the umask, and for a group if one is set."""

from __future__ import annotations

import grp
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from models import file_access
from models.file_access import GroupError, make_directory, publish, restrict, share, share_with
from models.output_file import replacing
from models.store.engine import connect, upgrade

GROUP = grp.getgrgid(os.getgid()).gr_name


def mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.stat().st_mode))


@pytest.fixture(autouse=True, params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Each umask of the user, as a new process finds it."""
    before = os.umask(request.param)
    monkeypatch.setattr(file_access._ACCESS, "umask", None)
    yield int(request.param)
    monkeypatch.setattr(file_access._ACCESS, "group_id", None)
    os.umask(before)


def write_all(folder: Path) -> list[Path]:
    """A ledger, a replaced file and a directory."""
    ledger, report = folder / "ledger.db", folder / "reports" / "report.html"
    engine = connect(f"sqlite:///{ledger}")
    upgrade(engine)
    make_directory(report.parent)
    for _ in range(2):
        with replacing(report) as unfinished:
            unfinished.write_text("report", encoding="utf-8")
    engine.dispose()
    return [ledger, report, report.parent]


def test_files_are_private(tmp_path: Path) -> None:
    """Ledger and reports have mode 0600, their directories 0700."""
    restrict()
    assert list(map(mode, write_all(tmp_path))) == ["0o600", "0o600", "0o700"]


def test_a_group_can_read(tmp_path: Path) -> None:
    """With files.group, they have mode 0640 and 0750, and belong to the group."""
    restrict()
    share_with(GROUP)
    written = write_all(tmp_path)
    assert list(map(mode, written)) == ["0o640", "0o640", "0o750"]
    assert {path.stat().st_gid for path in written} == {os.getgid()}
    share_with(None)
    share(written[0])
    assert mode(written[0]) == "0o640"  # what exists is left alone


def test_published_files_have_the_access_of_the_umask(tmp_path: Path, umask: int) -> None:
    """Copies for a web server are as readable as the umask of the process's start allows."""
    restrict()
    (tmp_path / "copy.html").touch()
    assert mode(tmp_path / "copy.html") == "0o600"
    publish(tmp_path / "copy.html")
    assert mode(tmp_path / "copy.html") == oct(0o666 & ~umask)


def test_a_group_that_cannot_be_used_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group that does not exist, or that the user is not in, is one sentence with the fix."""
    with pytest.raises(GroupError, match="there is no group 'no-such-group'"):
        share_with("no-such-group")
    other = next(group for group in grp.getgrall() if group.gr_gid not in {os.getgid(), *os.getgroups()})
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(GroupError, match=f"usermod -aG {other.gr_name}"):
        share_with(other.gr_name)
