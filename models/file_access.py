"""Access to the files that kmsledger writes: its user only, whatever the umask, and the group of `files.group` if it is set."""

from __future__ import annotations

import grp
import os
import stat
from pathlib import Path

from models.errors import UserError


class GroupError(UserError):
    """The group of the settings cannot be used."""

    exit_code = 2


class _Access:
    """The access of this process's files; set once by the command."""

    def __init__(self) -> None:
        self.umask: int | None = None
        """The umask that the process was started with; None before it was replaced."""
        self.group_id: int | None = None


_ACCESS = _Access()


def restrict() -> None:
    """Create new files with mode 0600 and new directories with mode 0700 from now on."""
    previous = os.umask(0o077)
    if _ACCESS.umask is None:
        _ACCESS.umask = previous
    _ACCESS.group_id = None


def share_with(group: str | None) -> None:
    """Let a group read the files that :func:`share` names (modes 0640 and 0750), or nobody. Raises GroupError."""
    if group is None:
        _ACCESS.group_id = None
        return
    try:
        group_id = grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise GroupError(
            f"files.group: there is no group {group!r} on this machine: create it, or correct the setting"
        ) from error
    if os.geteuid() and group_id not in {os.getegid(), *os.getgroups()}:
        raise GroupError(
            f"files.group: this user is not in the group {group}: add it with `usermod -aG {group} USER` and log in again"
        )
    _ACCESS.group_id = group_id


def share(path: Path) -> None:
    """Let the group of the settings read a file, or list a directory, that this process has created."""
    if _ACCESS.group_id is not None:
        os.chown(path, -1, _ACCESS.group_id)
        path.chmod(0o750 if stat.S_ISDIR(path.stat().st_mode) else 0o640)


def make_directory(path: Path) -> None:
    """Create a directory, and those above it, that the group of the settings can list."""
    missing = [path, *path.parents]
    missing = missing[: next((number for number, each in enumerate(missing) if each.exists()), len(missing))]
    path.mkdir(parents=True, exist_ok=True)
    for each in missing:
        share(each)


def publish(path: Path) -> None:
    """Let everyone read a file whom the umask of the process's start lets read it: others are its readers."""
    if _ACCESS.umask is not None:
        path.chmod((0o777 if path.is_dir() else 0o666) & ~_ACCESS.umask)
