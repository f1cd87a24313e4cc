"""Files that killed builds of a mart left behind."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path


def remove_stale_files(mart_path: Path) -> list[Path]:
    """Delete unfinished marts, their write-ahead logs and spill directories whose process is gone; returns what was deleted.

    A build writes ``.NAME.PID.new``, ``.NAME.PID.new.wal`` and ``.NAME.PID.new.tmp/``. Files of running processes are kept,
    as are those of which the process cannot be determined.
    """
    pattern = re.compile(rf"\.{re.escape(mart_path.name)}\.([1-9][0-9]*)\.new(?:\.wal|\.tmp)?")
    deleted = []
    with suppress(OSError):  # a directory that cannot be read has its message when the build writes to it
        for path in sorted(mart_path.absolute().parent.iterdir()):
            match = pattern.fullmatch(path.name)
            if match and not _is_running(int(match[1])) and _delete(path):
                deleted.append(path)
    return deleted


def _is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def _delete(path: Path) -> bool:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError:
        return False  # another build deleted it, or it belongs to another user
    return True
