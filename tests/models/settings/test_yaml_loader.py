"""The YAML loader: scalars stay as written, and every file yields settings or problems."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.settings import (
    AccountEntry,
    Settings,
    SettingsError,
    load,
    yaml_loader,
)
from tests.hypothesis_profiles import examples
from tests.models.settings.settings_writer import MAIL, Writer


@pytest.fixture
def read(tmp_path: Path) -> Writer:
    return Writer(tmp_path)


@pytest.mark.parametrize(
    "text", ["no", "off", "y", "1e3", "0x1F", "012", "0o17", "1_000", "2026-11-22", ".5", "=", "1:30"]
)
def test_plain_scalars_stay_text(read: Writer, text: str) -> None:
    """Scalars that YAML 1.1 reads as booleans, numbers, dates or sexagesimals are unchanged."""
    made = read(f"aws: {{profile: {text}}}\nrules: {{parameters: {{r: {{p: {text}}}}}}}\nreport: {{title: {text}}}")
    assert (made.aws.profile, made.rules.parameters["r"]["p"], made.report.title) == (text, text, text)


@pytest.mark.parametrize("account", ["012345678901", "000000000001", "012345670123", "123456789012"])
@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_account_ids_keep_leading_zeros(read: Writer, account: str, quote: str) -> None:
    """An account ID keeps its twelve digits, quoted or not, even if they look octal."""
    written = f"{quote}{account}{quote}"
    made = read(
        f"organization:\n  source: list\n  accounts: [{written}]\n  exclude: {{accounts: [{written}]}}\n"
        f"known_external_parties: [{{name: v, accounts: [{written}]}}]"
    )
    assert made.organization.accounts == (AccountEntry(id=account),)
    assert made.organization.exclude.accounts == made.known_external_parties[0].accounts == (account,)


@pytest.mark.parametrize("account", ["12345678901", "0123456701", "1"])
def test_lost_digits_are_explained(read: Writer, account: str) -> None:
    """For an ID with too few digits, the error mentions lost leading zeros."""
    assert read.problem(f"organization: {{include: {{accounts: [{account}]}}}}").endswith(
        f'organization.include.accounts[0]: found "{account}", expected an account id of 12 digits: '
        "an account id has 12 digits; were leading zeros lost?"
    )


@pytest.mark.parametrize(
    "account", ["1234-5678-9012", "1.23457E+11", "0123456789012", "o12345678901", "١٢٣٤٥٦٧٨٩٠١٢", "''"]
)
def test_other_account_ids_are_rejected(read: Writer, account: str) -> None:
    """Only twelve ASCII digits are an account ID."""
    assert "expected an account id of 12 digits" in read.problem(
        f"organization: {{include: {{accounts: [{account}]}}}}"
    )


@pytest.mark.parametrize("nothing", ["", "null", "~", "NULL", '""', "${UNSET:-}", "${EMPTY}"])
def test_empty_optional_settings_are_not_set(read: Writer, nothing: str) -> None:
    """An optional setting that is empty, null or an empty text is not set; so are groups and the mail."""
    made = read(
        f"aws:\n  profile: {nothing}\n  ca_bundle: {nothing}\n  endpoint_url: {nothing}\n"
        f"role:\n  external_id: {nothing}\norganization:\n  reader_role: {nothing}\nmail:\ncrawl:\nlog: null",
        EMPTY="",
    )
    assert (made.aws.profile, made.aws.ca_bundle, made.aws.endpoint_url) == (None, None, None)
    assert (made.role.external_id, made.organization.reader_role, made.mail) == (None, None, None)
    assert made.crawl == Settings().crawl


@pytest.mark.parametrize(
    "line",
    [
        "database: {}", "aws: {{region: {}}}", "aws: {{use_fips: {}}}", "aws: {{read_timeout: {}}}",
        "crawl: {{max_attempts: {}}}", "log: {{level: {}}}", "report: {{directory: {}}}", "report: {{title: {}}}",
        "regions: {{include: {}}}", "regions: {{include: [{}]}}", "aws: {{endpoints: {}}}", "rules: {{parameters: {}}}",
        "organization: {{include: {{names: [{}]}}}}", "role: {{session_tags: {{k: {}}}}}", "known_external_parties: {}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("nothing", ["~", "null"])
def test_empty_required_values_are_rejected(read: Writer, line: str, nothing: str) -> None:
    """A setting with a default cannot be emptied by accident; omit it to get the default."""
    assert f"found nothing ({nothing}), expected " in read.problem(line.format(nothing))


def test_a_quoted_null_is_a_text(read: Writer) -> None:
    """In quotes, null and the tilde are text."""
    made = read("report: {title: 'null'}\naws: {profile: \"~\"}")
    assert (made.report.title, made.aws.profile) == ("null", "~")


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "True", "FALSE", "1", "0", "y", "''"])
def test_a_switch_accepts_only_true_and_false(read: Writer, word: str) -> None:
    """Other words are not read as booleans."""
    assert "expected a switch: write true or false" in read.problem(f"crawl: {{aws_managed_key_details: {word}}}")


def test_switches_are_read(read: Writer) -> None:
    """Both words are accepted, also from the environment."""
    made = read("aws: {use_fips: true, use_dualstack: '${D}'}\nrole: {session_policy: false}", D="true")
    assert (made.aws.use_fips, made.aws.use_dualstack, made.role.session_policy) == (True, True, False)


@pytest.mark.parametrize("number", ["0", "4097", "-1", "1e3", "1_0", "0x10", "1.0", "٣", "9" * 5000, "''", "[1]", "+1"])
def test_whole_numbers_are_decimal_and_in_range(read: Writer, number: str) -> None:
    """Only decimal digits within the range are accepted."""
    assert "expected a whole number from 1 to 4096 (calls in flight)" in read.problem(
        f"crawl: {{concurrency: {number}}}"
    )


@pytest.mark.parametrize("number", ["0", "0.0", "-1", "inf", "nan", "1e2", "601", ".5", "5s"])
def test_seconds_are_decimal_and_in_range(read: Writer, number: str) -> None:
    """A timeout is a positive, bounded, decimal number of seconds."""
    assert "expected a number of seconds above 0 and up to 600" in read.problem(f"aws: {{connect_timeout: {number}}}")


def test_seconds_can_have_a_fraction(read: Writer) -> None:
    """Half a second is a valid timeout."""
    assert read("aws: {connect_timeout: 0.5, read_timeout: 7}").aws.connect_timeout == 0.5


def test_a_duplicate_key_names_both_lines(read: Writer) -> None:
    """In plain YAML the second of two equal keys would silently win."""
    assert read.problem("log:\n  level: info\n  format: text\n  level: debug\n") == (
        "4:3: log.level: found the same key twice (line 2 and line 4), expected each key once"
    )


def test_an_unknown_key_gets_a_suggestion(read: Writer) -> None:
    """A misspelled key gets the similar name; other keys get the list of names."""
    near, far = read.problems("role: {external-id: x}\nlog: {zebra: 1}")
    assert near.endswith(
        'role.external-id: found an unknown key, expected a known setting; did you mean "external_id"?'
    )
    assert far.endswith("log.zebra: found an unknown key, expected one of level, format")


def test_an_unknown_key_that_may_contain_a_secret_is_hidden(read: Writer) -> None:
    """Without the blank after the colon, key and secret are one word."""
    text = f"{MAIL}, username: u, password: x, password:hunter2}}"
    assert read.problem(text).startswith("1:103: mail: found an unknown key")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1:1: found no settings"),
        ("# only a comment\n", "1:1: found no settings"),
        ("~\n", "1:1: found no settings"),
        ("---\n", "2:1: found no settings"),
        ("- a\n", "1:1: found a list, expected a mapping of settings at the top"),
        ("database\n", "1:1: found a text, expected a mapping of settings at the top"),
        ("log: [\n", "2:1: found a YAML syntax error"),
        ("log:\n\tlevel: info\n", "2:1: found a YAML syntax error: a tab; indent with spaces"),
        ("log:\n  level: a: b\n", "2:11: found a YAML syntax error: a second colon on the line"),
        ("log: {}\n---\nlog: {}\n", "2:1: found a YAML syntax error"),
        ("log: {}\nmail: *hunter2\n", "2:7: found a YAML syntax error: an alias without its anchor"),
        ("mail: {password: !x!hunter2 y}\n", "1:18: found a YAML syntax error"),
        ("log: \x07\n", "1:6: found a YAML syntax error: the character U+0007 is not allowed"),
        ("[\n" * 5000, "1:1: found a YAML syntax error: lists or mappings nested too deeply"),
        ("? [a]\n: b\n", "1:3: found a list or mapping as a key"),
        ("log: {'': x}\n", "1:7: log: found an empty key"),
        ("log: !!python/name:os.system {}\n", "1:6: log: found a value with a tag (!)"),
        ("log: {level: !secret info}\n", "1:14: log.level: found a value with a tag (!)"),
        ("log: &l {level: info}\nregions: {<<: *l}\n", "2:11: regions.<<: found a merge key"),
        ("log: info\n", "1:6: log: found a text, expected a mapping"),
        ("regions: {include: eu-west-1}\n", "1:20: regions.include: found a text, expected a list"),
        ("regions: {include: {}}\n", "1:20: regions.include: found a mapping, expected a list"),
        ("aws: {region: [x]}\n", "1:15: aws.region: found a list, expected a region"),
        ("mail: smtp://u:hunter2@h\n", "1:7: mail: found a text, expected a mapping"),
    ],
)
def test_a_malformed_file_is_one_located_problem(read: Writer, text: str, expected: str) -> None:
    """Any malformed file yields one problem with a position and no secret."""
    problem = read.problem(text).replace('regions."<<"', "regions.<<")
    assert problem.startswith(expected)
    assert "hunter2" not in problem


def test_unreadable_files_are_problems(tmp_path: Path) -> None:
    """A missing file, a directory and an unreadable path are problems of the whole file."""
    for path, found in (
        (tmp_path / "none.yaml", "the file does not exist: create it (`kmsledger init`), or correct the path"),
        (tmp_path, "the path is a directory: name a YAML file"),
        (tmp_path / ("a" * 300), "the file cannot be read (File name too long): correct the path or the permissions"),
        (Path("a\0b"), "the path contains a NUL character: correct the path"),
    ):
        with pytest.raises(SettingsError) as caught:
            load(path, {})
        assert str(caught.value).endswith(f": {found}")
        assert caught.value.problems[0].line == 0


def test_invalid_utf8_is_located(read: Writer) -> None:
    """The problem names the invalid byte and its position in characters."""
    assert read.problem("log:\n  level: ü".encode() + b"\xfc\n") == (
        "2:11: found byte 0xfc, which is not UTF-8, expected a file saved as UTF-8"
    )
    assert "not UTF-8" in read.problem("log: {level: info}".encode("utf-16"))


def test_a_byte_order_mark_is_ignored(read: Writer) -> None:
    """A byte order mark does not shift columns."""
    assert read.problem(b"\xef\xbb\xbflog: x").startswith("1:6: log:")


def test_aliases_work(read: Writer) -> None:
    """A list can be defined once and used twice."""
    made = read("regions: {exclude: &r [eu-west-1]}\nrules: {disable: *r}")
    assert made.rules.disable == made.regions.exclude == ("eu-west-1",)


@pytest.mark.parametrize(
    "text",
    [
        "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 20)),
        "rules: {parameters: &p {a: *p, b: *p, c: *p}}\n",
        "regions: {include: &i [*i]}\n",
    ],
    ids=["billion laughs", "branching cycle", "cycle"],
)
def test_alias_bombs_are_rejected(read: Writer, text: str) -> None:
    """Aliases that multiply or contain themselves are a problem, found quickly."""
    problems = read.problems(text)
    assert any("aliases that repeat too many" in problem or "an alias inside itself" in problem for problem in problems)


def test_environment_references_are_replaced(read: Writer) -> None:
    """References are replaced anywhere in a value; defaults apply to unset and empty variables; $$ and a lone $ are dollars."""
    made = read(
        "report: {title: 'a ${A} ${B:-b} ${EMPTY:-c} $$ $x $${A} $'}\n"
        "regions: {include: ['${R}']}\nrules: {parameters: {r: {p: '${YAML}'}}}",
        A="1", EMPTY="", R="eu-west-1", YAML="{no: ~} # ${A}",
    )  # fmt: skip
    assert made.report.title == "a 1 b c $ $x ${A} $"
    assert made.regions.include == ("eu-west-1",)
    assert made.rules.parameters["r"]["p"] == "{no: ~} # ${A}"


def test_a_missing_variable_is_located(read: Writer) -> None:
    """Each missing variable is one problem; the incomplete value is not validated."""
    assert read.problems("aws:\n  region: ${HOME_REGION}\n  ca_bundle: ${CA}/x.pem\n") == [
        (
            "2:11: aws.region: found no environment variable HOME_REGION, "
            "expected HOME_REGION in the environment, or ${HOME_REGION:-default}"
        ),
        "3:14: aws.ca_bundle: found no environment variable CA, expected CA in the environment, or ${CA:-default}",
    ]


@pytest.mark.parametrize("text", ["${", "${}", "${1A}", "${A", "${A:x}", "${A-x}", "a${ A }"])
def test_a_malformed_reference_is_a_problem(read: Writer, text: str) -> None:
    """A malformed reference is neither part of a value nor of the message."""
    problem = read.problem(f"{MAIL}, username: u, password: '{text}hunter2'}}", A="x")
    assert "mail.password: found ${ without a name, expected ${NAME}, ${NAME:-default}, or $$" in problem
    assert "hunter2" not in problem


def test_a_value_from_the_environment_is_not_shown(read: Writer) -> None:
    """A variable can contain a secret, so its value is not part of the message."""
    assert read.problem(MAIL.replace("h.example", "'${HOST}'") + "}", HOST="my secret").startswith(
        '1:14: mail.host: found "${HOST}" (filled from the environment), expected a host name'
    )


TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Cn")), min_size=1, max_size=30) | st.sampled_from(
    ["no", "off", "null", "~", "0123456701", "1e3", "0x1f", "2026-11-22", "=", "<<", "- a", "a: b", "#", "&a", "*a",
     "!t", "${X", "$$"]
)  # fmt: skip
ACCOUNT = st.from_regex(r"[0-9]{12}\Z", fullmatch=True)
DOCUMENT = st.fixed_dictionaries(
    {},
    optional={
        "report": st.fixed_dictionaries({"title": TEXT}),
        "aws": st.fixed_dictionaries({"profile": TEXT}),
        "rules": st.fixed_dictionaries(
            {
                "parameters": st.dictionaries(TEXT, st.dictionaries(TEXT, TEXT, max_size=3), max_size=3),
                "disable": st.lists(TEXT, max_size=3),
            }
        ),
        "known_external_parties": st.lists(
            st.fixed_dictionaries({"name": TEXT, "accounts": st.lists(ACCOUNT, min_size=1, max_size=3)}),
            max_size=3,
            unique_by=lambda party: party["name"],
        ),
    },
).filter(bool)


def escaped(value: Any) -> Any:
    """Double the dollars of every value, as users have to."""
    if isinstance(value, dict):
        return {key: escaped(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [escaped(inner) for inner in value]
    return value.replace("$", "$$")


@settings(max_examples=examples(fast=25, deep=300), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=DOCUMENT, flow=st.booleans(), style=st.sampled_from([None, '"', "'"]))
def test_texts_survive_a_round_trip(read: Writer, document: dict[str, Any], flow: bool, style: str | None) -> None:
    """Any text, written as YAML in any style, is loaded unchanged."""
    text = yaml.safe_dump(escaped(document), default_flow_style=flow, default_style=style, allow_unicode=True, width=40)
    made = read(text).model_dump(mode="json")
    for group, values in document.items():
        if isinstance(values, list):
            assert made[group] == values
        else:
            assert {name: made[group][name] for name in values} == values


@settings(max_examples=examples(fast=100, deep=2000), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.binary(max_size=60)
    | st.text(st.sampled_from(" \n:-[]{},&*!|>'\"%@`#~?<$a1é\t\x85\u2028\ufeff"), max_size=40).map(str.encode)
)
def test_any_bytes_are_settings_or_problems(read: Writer, text: bytes) -> None:
    """No file raises another exception."""
    try:
        read(text)
    except SettingsError as error:
        problems = error.problems
    else:
        return
    assert problems
    assert all(problem.line >= 1 and problem.column >= 1 and "\n" not in str(problem) for problem in problems)


@settings(max_examples=examples(fast=60, deep=1000), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.sampled_from(
    ["log: x\n", "- a\n", "  ", "k: ", "&x ", "*x", "!t ", "'q'", '"d\\n"', "|\n  t\n", ">-\n  a\n\n  b\n", "? a\n", "---\n",
     "null", "~", "{a: b}", "[a, b]", "# c\n", "é", "\t", "\ufeff", "\u2028", "\x85", "\r\n", "a", "1", ":", "\n"]
), max_size=14))  # fmt: skip
def test_both_parsers_read_the_same(tmp_path: Path, parts: list[str]) -> None:
    """libyaml, where it is used, yields the values, positions and problems of PyYAML's own parser."""
    file = tmp_path / "c.yaml"
    file.write_text("".join(parts) + "\n", encoding="utf-8", newline="")
    with pytest.MonkeyPatch.context() as patch:
        fast = yaml_loader.read(file, {})
        patch.setattr(yaml_loader, "_LOADER", yaml.BaseLoader)
        assert yaml_loader.read(file, {}) == fast


@pytest.mark.parametrize("text", ["{\n" * 1_000_000, "- " * 1_000_000, "[\n" * 1_000_000])
def test_deep_nesting_does_not_end_the_program(read: Writer, text: str) -> None:
    """Libyaml would overflow the stack of the process."""
    assert read.problem(text).startswith("1:1: found a YAML syntax error: lists or mappings nested too deeply")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: &x [*x]", "an alias inside itself"),
        ("? " + "[" * 40 + "]" * 40 + "\n: x", "nested too deeply"),
        ("[\n" * 2000 + "]" * 2000, "nested too deeply"),
        ("a: &x [1, 2, 3]\nb: [" + ", ".join(["*x"] * 4000) + "]", "repeat too many"),
        ("a: \x07", "the character U\\+0007"),
    ],
)
def test_composed_nodes_are_safe_to_walk(text: str, problem: str) -> None:
    """Whatever is too large, too deep or no YAML is a MarkedYAMLError, for one document and for many."""
    for compose in (yaml_loader.compose, yaml_loader.compose_all):
        with pytest.raises(yaml.MarkedYAMLError, match=problem):
            compose(text)


def test_composed_values_are_texts() -> None:
    """Scalars are texts as written; a text without documents has no node; only compose_all accepts several."""
    assert [
        yaml.BaseLoader("").construct_document(root) for root in yaml_loader.compose_all("{a: [no, 010]}\n---\nb\n")
    ] == [
        {"a": ["no", "010"]},
        "b",
    ]
    assert yaml_loader.compose("# nothing\n") is None
    with pytest.raises(yaml.MarkedYAMLError, match="another document"):
        yaml_loader.compose("a\n---\nb\n")
