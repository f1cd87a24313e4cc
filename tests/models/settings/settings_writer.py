"""Writes settings files for tests."""

from pathlib import Path

import pytest

from models.settings import (
    Settings,
    SettingsError,
    load,
)

# A mail group that lacks its closing brace: tests add what they need.
MAIL = "mail: {host: h.example, sender: a@example.org, recipients: [b@example.org]"


class Writer:
    """Writes a settings file and reads it back."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "config.yaml"

    def __call__(self, text: str | bytes, **env: str) -> Settings:
        """The settings of `text`, with `env` as the environment."""
        self.file.write_bytes(text.encode() if isinstance(text, str) else text)
        return load(self.file, env)

    def problems(self, text: str | bytes, **env: str) -> list[str]:
        """The problems of `text`, without the name of the file."""
        with pytest.raises(SettingsError) as caught:
            self(text, **env)
        assert str(caught.value) == "\n".join(map(str, caught.value.problems))
        return [str(problem).removeprefix(f"{self.file}:").strip() for problem in caught.value.problems]

    def problem(self, text: str | bytes, **env: str) -> str:
        """The only problem of `text`."""
        (only,) = self.problems(text, **env)
        return only
