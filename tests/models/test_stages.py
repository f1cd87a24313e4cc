"""The stages of a run."""

from __future__ import annotations

import resource
from pathlib import Path

from models.stages import durations, stage


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_a_stage_returns_the_memory_that_it_freed() -> None:
    """The C library keeps freed memory below memory in use, and each stage would add to what earlier ones needed."""
    with stage("crawl"):
        blocks = [bytes(2_000) for _ in range(50_000)]
        kept = blocks[::500]
        del blocks
        before = _resident()
    assert before - _resident() > 50_000_000
    assert len(kept) == 100
    assert durations()["crawl"] > 0
