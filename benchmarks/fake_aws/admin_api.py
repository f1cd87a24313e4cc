"""The admin API: reads counters and sets faults and the day while clients send requests.

GET  /_fake/counters   operations, errors, accidents, connections, requests per connection
GET  /_fake/buckets    requests by quota bucket and ten-second window
GET  /_fake/world      accounts, credentials, role, regions
GET  /_fake/authorized calls that the enforced policies allowed and denied, as pairs of account and action
POST /_fake/faults     sets faults: a JSON object with the fields of `Faults` that differ from the default
POST /_fake/policies   enforces IAM policies (see `Authorization.from_json`); without a body, every caller may call everything
POST /_fake/day        sets the day: {"day": 3}
POST /_fake/reset      resets the counters
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from benchmarks.fake_aws import aws_protocols
from benchmarks.fake_aws.authorization import Authorization
from benchmarks.fake_aws.faults import Faults

if TYPE_CHECKING:  # a circular import
    from benchmarks.fake_aws.service import Service


class Connections:
    """Counts connections and the requests on each."""

    def __init__(self) -> None:
        self.opened = 0
        self.handshakes = 0
        self.requests = 0
        self.ended: list[int] = []
        """Closed connections by number of requests: none, one, up to three, up to seven ... (powers of two)."""

    def end(self, requests: int) -> None:
        """Record the end of a connection after a number of requests."""
        size = requests.bit_length()
        self.ended.extend([0] * (size + 1 - len(self.ended)))
        self.ended[size] += 1

    def report(self) -> dict[str, Any]:
        """The counters as JSON values; `per_connection` is the mean, `ended_after` counts closed connections by requests."""
        return {
            "connections": self.opened,
            "tls_connections": self.handshakes,
            "requests": self.requests,
            "per_connection": self.requests / self.opened if self.opened else 0.0,
            "ended_after": {str((1 << size) >> 1): count for size, count in enumerate(self.ended) if count},
        }


class AdminApi:
    """Handles requests below /_fake/."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.connections = Connections()

    def handle(self, method: str, target: str, body: bytes) -> bytes:
        """Return a complete HTTP response."""
        try:
            document = self._dispatch(method, target.partition("?")[0].removeprefix("/_fake/"), body)
        except (ValueError, TypeError, KeyError) as error:
            return _response(400, {"message": str(error)})
        return _response(404, {"message": "no such admin operation"}) if document is None else _response(200, document)

    def _dispatch(self, method: str, command: str, body: bytes) -> Any:
        service = self._service
        params = orjson.loads(body) if method == "POST" and body else {}
        if command == "counters":
            return {
                "operations": dict(service.operations),
                "errors": dict(service.errors),
                "accidents": dict(service.accidents),
                **self.connections.report(),
            }
        if command == "buckets":
            return service.quotas.report()
        if command == "world":
            return self._world()
        if command == "authorized":
            return service.authorization.report() if service.authorization is not None else None
        if method != "POST":
            return None
        if command == "faults":
            service.set_faults(Faults.from_json(params))
            return service.state.faults.to_json()
        if command == "policies":
            service.authorization = Authorization.from_json(params) if params else None
            return {}
        if command == "day":
            service.state.day = int(params["day"])
            return {"day": service.state.day}
        if command == "reset":
            for counter in (service.operations, service.errors, service.accidents):
                counter.clear()
            self.connections = Connections()
            return {}
        return None

    def _world(self) -> dict[str, Any]:
        world = self._service.state.world
        return {
            "parameters": world.parameters.to_json(),
            "day": self._service.state.day,
            "access_key": world.access_key,
            "secret_key": world.secret_key,
            "management": world.management.id,
            "giant": world.giant,
            "accounts": [
                {"id": each.id, "name": each.name, "state": each.state, "role": each.role} for each in world.accounts
            ],
        }


def _response(status: int, document: Any) -> bytes:
    body = orjson.dumps(document)
    return aws_protocols.head(status, "rest-json", len(body)) + body
