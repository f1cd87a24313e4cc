"""A scratch copy of the repository for following a recipe of CONTRIBUTING.md; counts the added files and lines."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 900


@dataclass
class Scratch:
    """A copy of the files under version control. ``added`` is the number of added lines by file."""

    root: Path
    added: dict[str, int] = field(default_factory=dict)

    def create(self, name: str, text: str) -> Path:
        """Write a new file."""
        path = self.root / name
        assert not path.exists(), f"{name} exists already"
        path.write_text(text, encoding="utf-8")
        self._count(name, text)
        return path

    def insert(self, name: str, anchor: str, text: str) -> None:
        """Insert lines before the only line that contains the anchor."""
        path = self.root / name
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        (position,) = (number for number, line in enumerate(lines) if anchor in line)
        lines.insert(position, text)
        path.write_text("".join(lines), encoding="utf-8")
        self._count(name, text)

    def _count(self, name: str, text: str) -> None:
        self.added[name] = self.added.get(name, 0) + sum(bool(line.strip()) for line in text.splitlines())

    def python(self, *arguments: str) -> str:
        """Run Python in the copy and return its output; fails with the output if the exit code is not 0."""
        # A test run of its own, not a process of this one.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        environment = {**inherited, "PYTHONPATH": str(self.root)}
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def pytest(self, *arguments: str) -> str:
        """Run tests of the copy."""
        return self.python("-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments)

    def kmsledger(self, *arguments: str) -> str:
        """Run the command of the copy; its standard output."""
        return self.python("kmsledger.py", *arguments)


def scratch_copy(target: Path) -> Scratch:
    """Copy all files that are, or will be, under version control, and their byte code, which is valid for the same times."""
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listing.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    for folder in {(ROOT / name).parent for name in listing.split("\0") if name.endswith(".py")}:
        if (folder / "__pycache__").is_dir():
            shutil.copytree(folder / "__pycache__", target / folder.relative_to(ROOT) / "__pycache__")
    return Scratch(target)
