"""The question: who can do this with that."""

from __future__ import annotations

from pathlib import Path

from models.aws_types import SECRET, aws_type
from reports.answers.key_access import key_answer
from reports.answers.operation_groups import Wanted, wanted
from reports.answers.repository import Facts, opened
from reports.answers.secret_access import secret_answer
from reports.answers.target_lookup import Thing, find
from reports.answers.who_can_result import Answer, KeyAnswer

CAPS = (
    "Service control policies (outside the management account), resource control policies and VPC endpoint policies are not "
    "read: each could take away what is allowed here, none could add to it."
)
_MEANINGS = {
    "s3": (
        "S3 encrypts and decrypts with the key on behalf of whoever reads and writes objects; s3:GetObject, the bucket's policy "
        "and its ACLs are not evaluated, so these are the users of the key, not the readers of the bucket. Objects may be under "
        "other keys than the bucket's default."
    ),
    "rds": (
        "RDS uses the key itself, through a grant that was made when the database was: whoever may connect to the database reads "
        "data without any right to the key. Taking the key's rights from others does not close the database; disabling the key "
        "does."
    ),
    "elasticache": (
        "ElastiCache uses the key itself, through a grant: whoever may connect to the cache reads data without any right to the "
        "key."
    ),
    "secretsmanager": (
        "Reading means the current version through GetSecretValue; the key that the secret names now is taken to be the one "
        "that its versions are under."
    ),
}


def who_can(path: Path, operation: str, what: str, *, as_of: str | None = None) -> Answer:
    """Answer from a mart. Raises MartError, or QueryError (exit code 2) for an unknown operation or thing."""
    asked = wanted(operation)
    with opened(path, as_of) as facts:
        return answered(facts, asked, find(facts, what))


def answered(facts: Facts, asked: Wanted, thing: Thing) -> Answer:
    """The answer about one thing."""
    keys: list[KeyAnswer] = []
    notes: list[str] = []
    kind = thing.resource["resource_type"] if thing.resource else "key"
    question = f"Who can {asked.phrase} key {thing.arn}?"
    if thing.resource is None:
        answer, notes = _key(facts, asked, thing.arn)
        keys.append(answer)
    else:
        reading = kind == SECRET and "kms:Decrypt" in asked.operations
        name = f"{thing.resource['name']} ({thing.arn})"
        question = f"Who can read secret {name}?" if reading else f"Who can {asked.phrase} the keys of {name}?"
        for usage in thing.usage:
            if reading and usage["role"] == "secret":
                key = facts.key(usage["key_arn"]) if usage["key_arn"] else None
                answer, more = secret_answer(facts, usage, key)
            elif usage["key_arn"] is not None:
                answer, more = _key(facts, asked, usage["key_arn"], usage["reason"])
                answer.role = usage["role"]
            else:
                answer, more = _keyless(usage), []
            keys.append(answer)
            notes += more
        if not thing.usage:
            unknown = ["which key it is under, because the ledger has no answer to that"]
            keys.append(KeyAnswer(None, None, None, [], unknown))
        if meaning := _meaning(kind, reading=reading):
            notes.append(meaning)
    notes.append(CAPS)
    return Answer(
        facts.moment, question, thing.arn, kind, asked.operations, keys, list(dict.fromkeys(notes)), facts.names
    )


def _key(facts: Facts, asked: Wanted, key_arn: str, reason: str | None = None) -> tuple[KeyAnswer, list[str]]:
    key = facts.key(key_arn)
    if key is not None:
        return key_answer(facts, key, asked)
    why = reason or "it is not in the ledger"
    return KeyAnswer(key_arn, None, None, [], [f"who can use key {key_arn}: {why}"]), []


def _keyless(usage: dict[str, object]) -> KeyAnswer:
    role = str(usage["role"])
    why = str(usage["reason"] or "")
    if usage["key_class"] == "none":
        sentence = "it is not encrypted with a key, so no key keeps anyone from its data"
    elif usage["key_class"] == "aws_owned":
        sentence = "it is under a key that AWS owns, which no customer's policy speaks of"
    else:
        sentence = f"which key it is under{': ' if why else ''}{why}"
    return KeyAnswer(None, None, None, [], [sentence], role)


def _meaning(kind: str, *, reading: bool) -> str:
    return "" if kind == SECRET and not reading else _MEANINGS.get(aws_type(kind).service, "")
