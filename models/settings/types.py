"""Types of settings. Every scalar arrives as written text, and each type validates and converts it.

Native values (an int for a number, a Path for a path) are accepted as well, so that code can create settings directly.
"""

import os.path
import re
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr, ValidationError, ValidationInfo, model_validator
from pydantic import ModelWrapValidatorHandler as Handler
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from models.memory_size import EXPECTED, memory_size

# Regions with KMS in 2026-11, used only to suggest a spelling; other names that look like regions are accepted.
_NAMES = (
    "af-south-1 ap-east-1 ap-east-2 ap-northeast-1 ap-northeast-2 ap-northeast-3 ap-south-1 ap-south-2 ap-southeast-1 "
    "ap-southeast-2 ap-southeast-3 ap-southeast-4 ap-southeast-5 ap-southeast-6 ap-southeast-7 ca-central-1 ca-west-1 "
    "cn-north-1 cn-northwest-1 eu-central-1 eu-central-2 eu-isoe-west-1 eu-north-1 eu-south-1 eu-south-2 eu-west-1 "
    "eu-west-2 eu-west-3 eusc-de-east-1 il-central-1 me-central-1 me-south-1 mx-central-1 sa-east-1 us-east-1 "
    "us-east-2 us-gov-east-1 us-gov-west-1 us-iso-east-1 us-iso-west-1 us-isob-east-1 us-isob-west-1 us-isof-east-1 "
    "us-isof-south-1 us-west-1 us-west-2"
)
KNOWN_REGIONS = tuple(_NAMES.split())
_REGION_WORDS = {word for region in KNOWN_REGIONS for word in region.split("-")[1:-1]}
_REGION = re.compile(r"[a-z]{2}(?:sc)?(?:-[a-z]+)+-\d")
_PARTITION = r"(?:aws|aws-cn|aws-us-gov|aws-eusc|aws-iso(?:-[a-z])?)"


def invalid(expected: str) -> PydanticCustomError:
    """The error for an invalid value; it contains the `expected` form, but never the value."""
    return PydanticCustomError("setting", "expected {expected}", {"expected": expected})


def unknown_key(expected: str) -> PydanticCustomError:
    """The error for an unknown key; `expected` names the nearest setting, or all of them."""
    return PydanticCustomError("unknown_key", "unknown key, expected {expected}", {"expected": expected})


def validation_error(location: tuple[str | int, ...], expected: str) -> InitErrorDetails:
    """An error at a location below the group that reports it."""
    return InitErrorDetails(type=invalid(expected), loc=location, input=None)


class Group(BaseModel):
    """A group of settings: frozen, without unknown keys; all errors are reported at once, contradictions included."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", defer_build=True, hide_input_in_errors=True, validate_default=True
    )
    renamed: ClassVar[Mapping[str, str]] = {}
    """Former keys of the group and their current names, for the message about an unknown key."""

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield contradictions between values; `data` is not validated and can contain anything."""
        del data
        yield from ()

    @model_validator(mode="wrap")
    @classmethod
    def _collect_errors(cls, data: Any, handler: Handler[Self]) -> Self:
        # A validator after the fields would not run if a field is invalid.
        if isinstance(data, cls):
            return handler(data)
        if data is None:
            data = {}  # a group whose settings are all commented out
        if not isinstance(data, Mapping):
            raise invalid("a mapping (key: value)")
        errors = [
            InitErrorDetails(type=_unknown(cls, key), loc=(key,), input=None)
            for key in data
            if key not in cls.model_fields
        ]
        errors += cls.contradictions(data)
        try:
            validated = handler({key: value for key, value in data.items() if key in cls.model_fields})
        except ValidationError as error:
            errors += [_copied(details) for details in error.errors(include_url=False)]
        else:
            if not errors:
                return validated
        raise ValidationError.from_exception_data(cls.__name__, errors, hide_input=True)


def _unknown(group: type[Group], key: str) -> PydanticCustomError:
    if key in group.renamed:
        return unknown_key(f'"{group.renamed[key]}", the new name of this setting')
    near = get_close_matches(key, group.model_fields, n=1)
    known = ", ".join(group.model_fields)
    return unknown_key(f'a known setting; did you mean "{near[0]}"?' if near else f"one of {known}")


def _copied(details: ErrorDetails) -> InitErrorDetails:
    context = details.get("ctx", {})
    own = {"setting": invalid, "unknown_key": unknown_key}.get(details["type"])
    kind = own(context["expected"]) if own else details["type"]
    return InitErrorDetails(type=kind, loc=details["loc"], input=details["input"], ctx=context)


def _text(value: Any) -> Any:
    if not isinstance(value, str):
        raise invalid("a text")
    if not value:
        raise invalid("a text that is not empty")
    if any(character in value for character in "\n\r\0"):
        raise invalid("a text on one line")
    return value


def _any_text(value: Any) -> Any:
    if not isinstance(value, str):
        raise invalid('a text (quote it if the word null is meant, "" for an empty one)')
    return value


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _unset(value: Any) -> Any:
    return None if value == "" else value


def _flag(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if value not in {"true", "false"}:
        raise invalid("a switch: write true or false")
    return value == "true"


def whole(low: int, high: int, unit: str) -> BeforeValidator:
    """Accept an integer from `low` to `high`, in decimal digits."""

    def check(value: Any) -> Any:
        number = int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value) else value
        if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
            raise invalid(f"a whole number from {low} to {high} ({unit})")
        return number

    return BeforeValidator(check)


def seconds(high: float) -> BeforeValidator:
    """Accept a decimal number of seconds above 0 and up to `high`."""

    def check(value: Any) -> Any:
        number = float(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", value) else value
        if not isinstance(number, int | float) or isinstance(number, bool) or not 0 < number <= high:
            raise invalid(f"a number of seconds above 0 and up to {high:g}")
        return float(number)

    return BeforeValidator(check)


def _bytes(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    try:
        return memory_size(value if isinstance(value, str) else "")
    except ValueError as error:
        raise invalid(EXPECTED) from error


def matching(pattern: str, expected: str, hint: Callable[[str], str | None] = lambda _: None) -> BeforeValidator:
    """Accept text that matches the whole `pattern`; `hint` can suggest a correction for other text."""
    compiled = re.compile(pattern)

    def check(value: Any) -> Any:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if isinstance(text, str) and compiled.fullmatch(text):
            return value
        advice = hint(text) if isinstance(text, str) else None
        raise invalid(f"{expected}: {advice}" if advice else expected)

    return BeforeValidator(check)


def _account_hint(value: str) -> str | None:
    if re.fullmatch(r"[0-9]{1,11}", value):
        return "an account id has 12 digits; were leading zeros lost?"
    if re.fullmatch(r"[0-9]{4}[- ][0-9]{4}[- ][0-9]{4}", value):
        return "write the 12 digits without separators"
    return None


def _role_name_hint(value: str) -> str | None:
    if value.startswith("arn:"):
        return "this is an ARN, but the account is filled in for each account"
    return "leave out the leading /" if value.startswith("/") else None


def _address_hint(value: str) -> str | None:
    return "write the address alone, without a name" if "<" in value else None


def _region(value: Any) -> Any:
    if not isinstance(value, str):
        raise invalid("a region such as eu-west-1")
    well_formed = _REGION.fullmatch(value) is not None
    if well_formed and (value in KNOWN_REGIONS or _REGION_WORDS.issuperset(value.split("-")[1:-1])):
        return value
    spelled = value.lower().replace("_", "-")
    near = get_close_matches(spelled, KNOWN_REGIONS, n=4, cutoff=0.8)
    if near:
        swapped = [region for region in near if sorted(region) == sorted(spelled)]  # esat: east, not west
        raise invalid(f'a region; did you mean "{(swapped or near)[0]}"?')
    if not well_formed:
        raise invalid("a region such as eu-west-1")
    return value


def _url(value: Any) -> Any:
    try:
        parts = urlsplit(value) if isinstance(value, str) and re.fullmatch(r"https?://[^\s@]+", value) else None
        if parts and parts.hostname is not None and parts.port != 0:
            return value
    except ValueError:
        pass  # the port is no number
    raise invalid("a URL such as https://host:port, without user name and password")


def _path(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, Path):
        value = str(value)
    if not isinstance(value, str) or not value or "\0" in value:
        raise invalid("a path")
    if value == "~" or value.startswith("~/"):
        raise invalid("a path without ~: write ${HOME} instead")
    return Path(resolved(value, info))


def resolved(path: str, info: ValidationInfo) -> str:
    """Return `path` as an absolute path, resolved against the directory of the settings file (`base` of the context)."""
    base = info.context.get("base") if isinstance(info.context, Mapping) else None
    return os.path.normpath(os.path.join(base, path)) if base else path  # noqa: PTH118  (text in, text out)


def _database(value: Any, info: ValidationInfo) -> Any:
    forms = "sqlite:///FILE (relative to this file, sqlite:////FILE absolute) or postgresql://USER@HOST/DATABASE"
    if isinstance(value, str) and value.startswith("postgresql://"):
        try:
            if urlsplit(value).port != 0 and re.fullmatch(r"postgresql://\S+", value):
                return value
        except ValueError:
            pass  # the port is no number
        raise invalid(f"{forms}: percent-encode special characters in user name and password")
    match = re.fullmatch(r"sqlite:///([^?#\0\n]+)", value) if isinstance(value, str) else None
    if match is None:
        raise invalid(forms)
    if match[1] == ":memory:":
        raise invalid(f"{forms}: a database in memory would not outlive the run")
    return f"sqlite:///{resolved(match[1], info)}"


Text = Annotated[str, BeforeValidator(_text)]
AnyText = Annotated[str, BeforeValidator(_any_text)]
Unset = BeforeValidator(_unset)  # "" (often from ${NAME:-}) means not set
OneOrMore = BeforeValidator(_listed)  # a text is a list of one item
MemorySize = Annotated[int, BeforeValidator(_bytes)]
Flag = Annotated[bool, BeforeValidator(_flag)]
AccountId = Annotated[str, matching(r"[0-9]{12}", "an account id of 12 digits", _account_hint)]
OuId = Annotated[
    str,
    matching(r"ou-[0-9a-z]{4,32}-[0-9a-z]{8,32}|r-[0-9a-z]{4,32}", "an OU or root id (ou-xxxx-xxxxxxxx or r-xxxx)"),
]
Region = Annotated[str, BeforeValidator(_region)]
RoleArn = Annotated[
    str,
    matching(
        rf"arn:{_PARTITION}:iam::[0-9]{{12}}:role/(?:[\x21-\x7e]+/)?[A-Za-z0-9_+=,.@-]{{1,64}}",
        "a role ARN (arn:aws:iam::123456789012:role/NAME; the partition may be another)",
    ),
]
RoleName = Annotated[
    str,
    matching(
        r"(?!arn:|/)(?:[\x21-\x7e]{1,510}/)?[A-Za-z0-9_+=,.@-]{1,64}",
        "a role name, or path/name",
        _role_name_hint,
    ),
]
SessionName = Annotated[
    str, matching(r"[A-Za-z0-9_+=,.@-]{2,64}", "2 to 64 letters, digits or characters from _+=,.@-")
]
Address = Annotated[
    str,
    matching(
        r"[^@\s<>(),:;\"\[\]\\]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?",
        "a mail address such as kms@example.org",
        _address_hint,
    ),
]
Password = Annotated[SecretStr, matching(r"[^\0\r\n]+", "a text on one line that is not empty")]
ExternalId = Annotated[
    SecretStr,
    matching(r"[A-Za-z0-9_+=,.@:/-]{2,1224}", "2 to 1224 letters, digits or characters from _+=,.@:/-"),
]
Host = Annotated[
    str,
    matching(
        r"[A-Za-z0-9._-]{1,253}|\[?[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]?",
        "a host name or address, without scheme and port",
    ),
]
Url = Annotated[str, BeforeValidator(_url)]
FilePath = Annotated[Path, BeforeValidator(_path)]
DatabaseUrl = Annotated[str, BeforeValidator(_database)]
