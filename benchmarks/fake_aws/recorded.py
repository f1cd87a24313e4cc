"""Serves declared operations from recorded responses: a new resource type needs no handler.

Each region in use has the recorded resources, with its own account, region and first key in place of the recorded ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from benchmarks.fake_aws.aws_protocols import api_error, service_model
from benchmarks.fake_aws.request_context import Call, Handler
from crawler.iam_policies import operations
from crawler.spec import Operation

RESPONSES = Path(__file__).parents[2] / "tests" / "end_to_end" / "responses"
ACCOUNT, REGION, KEY_ID = "111122223333", "eu-west-1", "1234abcd-12ab-34cd-56ef-1234567890ab"
"""Account, region and key in all recorded responses."""


def handlers() -> dict[str, Handler]:
    """The handlers of all recorded operations, by operation with the signing name of the service."""
    declared = {str(operation): operation for operation in operations()}
    result: dict[str, Handler] = {}
    for path in sorted(RESPONSES.glob("*.json")):
        responses = orjson.loads(path.read_bytes())["responses"]
        listed = orjson.dumps(
            [response for name, response in responses.items() if _is_listing(declared[name])]
        ).decode()
        for name, response in responses.items():
            model = service_model(declared[name].service)
            signing_name = model.signing_name if model else declared[name].service
            result[f"{signing_name}:{declared[name].name}"] = _handler(declared[name], response, listed)
    return result


def _is_listing(operation: Operation) -> bool:
    """Whether an operation is called for a scope, not for an item."""
    return not any(str(value).startswith("@") for value in operation.params.values())


def _handler(operation: Operation, response: dict[str, Any], listed: str) -> Handler:
    template = orjson.dumps(response).decode()
    of_item = [name for name, value in operation.params.items() if value in {"@arn", "@title"}]
    list_name = operation.items.partition("[")[0].partition(".")[0]

    def handle(call: Call) -> dict[str, Any]:
        call.service, call.operation = operation.service, str(operation)  # the request has the signing name
        members: dict[str, Any] = orjson.loads(_localized(template, call))
        if _is_listing(operation):
            entries = members.pop(list_name) if call.account_region.active else []
            is_paged = operation.paging is not None
            return call.listing("", list_name, entries, **members) if is_paged else {**members, list_name: entries}
        known = _localized(listed, call)
        if not all(str(call.params.get(name, "")) in known for name in of_item):
            raise api_error(call.service, "value", "The listing does not contain this resource.")
        return members

    return handle


def _localized(text: str, call: Call) -> str:
    account_region = call.account_region
    key_id = account_region.key_ids[0] if account_region.key_ids else KEY_ID
    return (
        text.replace(ACCOUNT, account_region.account_id).replace(REGION, account_region.region).replace(KEY_ID, key_id)
    )
