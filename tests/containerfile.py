"""Runs the instructions of a Containerfile in a directory instead of a container."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

KEPT = ("HOME", "LANG", "LC_ALL", "TMPDIR", "XDG_CONFIG_HOME")
"""Variables of the tests that a step sees: among them are those by which pip finds its configuration."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, with continuation lines joined."""

    name: str
    options: dict[str, str]
    text: str

    def words(self) -> list[str]:
        """The arguments, of the JSON form or separated by spaces."""
        words: list[str] = json.loads(self.text) if self.text.startswith("[") else shlex.split(self.text)
        return words


def read(path: Path) -> list[Instruction]:
    """Return the instructions of a Containerfile."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    instructions = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        name, _, text = line.strip().partition(" ")
        options = {}
        while option := re.match(r"--([a-z-]+)=(\S+)\s+", text.lstrip()):
            options[option[1]] = option[2]
            text = text.lstrip()[option.end() :]
        instructions.append(Instruction(name.upper(), options, text.strip()))
    return instructions


def directories(instructions: list[Instruction]) -> set[str]:
    """Return the directories that the image creates."""
    found = set()
    for instruction in instructions:
        if instruction.name in {"WORKDIR", "VOLUME"}:
            found.add(instruction.text)
        elif instruction.name == "COPY" and not instruction.text.endswith("/"):
            found.add(instruction.words()[-1])
    return found


@dataclass
class Image:
    """The result: a root directory and the configuration that the last stage sets."""

    root: Path
    context: Path
    base: Path
    """A directory with the commands of the base image, above all `python`."""
    mapped: set[str]
    variables: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = ""
    volumes: set[str] = field(default_factory=set)
    commands: dict[str, list[str]] = field(default_factory=dict)
    stages: dict[str, Path] = field(default_factory=dict)
    stage: str = ""

    def inside(self, text: str) -> str:
        """Replace each path that the image creates by the path below the root."""
        paths = "|".join(sorted((re.escape(path) for path in self.mapped), key=len, reverse=True))
        return re.sub(rf"(?<![\w.$}}/-])({paths})(?![\w-])", lambda match: f"{self.root}{match[1]}", text)

    def build(self, instructions: list[Instruction]) -> None:
        """Run all instructions; fails with the output of the step that fails."""
        for instruction in instructions:
            getattr(self, f"_{instruction.name.lower()}")(instruction)

    def environment(self) -> dict[str, str]:
        """The variables of a process in the image; a step that downloads packages may use the cache of this machine."""
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        kept |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        own = {name: value for name, value in self.variables.items() if name != "PIP_NO_CACHE_DIR"}
        return {**kept, "PATH": self._path(), **own}

    def _path(self) -> str:
        return f"{self.base}:/usr/bin:/bin"

    def _arg(self, instruction: Instruction) -> None:
        """The base is the machine of the tests."""

    def _from(self, instruction: Instruction) -> None:
        if self.root.exists():
            # The paths in scripts stay valid for the last stage, which therefore has the root of all stages.
            self.root.rename(kept := self.root.with_name(f"{self.root.name}-{self.stage}"))
            self.stages[self.stage] = kept
        self.root.mkdir()
        self.root.chmod(0o755)
        self.stage = instruction.text.partition(" AS ")[2]
        self.variables, self.workdir, self.user, self.volumes, self.commands = {}, "/", "", set(), {}

    def _workdir(self, instruction: Instruction) -> None:
        self.workdir = instruction.text
        Path(self.inside(self.workdir)).mkdir(parents=True, exist_ok=True)

    def _env(self, instruction: Instruction) -> None:
        for assignment in instruction.words():
            name, _, value = assignment.partition("=")
            self.variables[name] = self.inside(value.replace("$PATH", self._path()))

    def _copy(self, instruction: Instruction) -> None:
        *sources, target = instruction.words()
        destination = Path(self.inside(target))
        for source in sources:
            if stage := instruction.options.get("from"):
                found = [self.stages[stage] / source.lstrip("/")]
            else:
                found = list(self.context.glob(source))
            assert found, f"{source} does not exist"
            for path in found:
                if path.is_dir():
                    shutil.copytree(path, destination, symlinks=True)
                    _own(destination, instruction.options)
                else:
                    destination.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(path, destination)

    def _run(self, instruction: Instruction) -> None:
        command = ["/bin/sh", "-c", self.inside(instruction.text)]
        done = subprocess.run(
            command,
            cwd=self.inside(self.workdir),
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{instruction.text}\n{done.stdout}\n{done.stderr}"

    def _volume(self, instruction: Instruction) -> None:
        self.volumes.add(instruction.text)

    def _user(self, instruction: Instruction) -> None:
        self.user = instruction.text

    def _healthcheck(self, instruction: Instruction) -> None:
        _, _, command = instruction.text.partition("CMD ")
        self.commands["HEALTHCHECK"] = json.loads(command)

    def _entrypoint(self, instruction: Instruction) -> None:
        self.commands["ENTRYPOINT"] = instruction.words()

    def _cmd(self, instruction: Instruction) -> None:
        self.commands["CMD"] = instruction.words()


def _own(path: Path, options: dict[str, str]) -> None:
    if mode := options.get("chmod"):
        path.chmod(int(mode, 8))
    if (owner := options.get("chown")) and os.geteuid() == 0:
        user, _, group = owner.partition(":")
        os.chown(path, int(user), int(group))
