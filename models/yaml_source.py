"""A YAML file as plain text values with their positions; nothing is guessed from how a scalar looks.

YAML 1.1 reads `no` as false, `0123456701` as octal and `012345678901` as text. Here every scalar stays the text that
was written, and the setting that receives it decides. Only a plain `null`, `~` or nothing at all is None.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

type_names = {"tag:yaml.org,2002:str", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map"}
