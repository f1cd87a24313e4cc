"""The format of an evidence pack: a ZIP file whose last entry, the manifest, has the SHA-256 of each other entry."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Final
from zipfile import ZIP_DEFLATED, ZipInfo

FORMAT: Final = "kmsledger.evidence/1"
MANIFEST: Final = "manifest.json"
SAFE_NAME: Final = re.compile(r"(?:[a-z]+/)?[A-Za-z0-9][A-Za-z0-9._-]{0,120}")
"""A file of a pack, at most one directory deep. It is safe on every operating system, and has no control characters."""


def entry(name: str) -> ZipInfo:
    """The metadata of an entry: always the same, so that equal facts give equal bytes."""
    info = ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.compress_type = ZIP_DEFLATED
    info.create_system = 3  # Unix, on every system
    info.external_attr = 0o100644 << 16
    return info


def encode(manifest: dict[str, Any]) -> bytes:
    """The only form of a manifest."""
    return (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()
