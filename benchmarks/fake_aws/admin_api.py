"""The control over HTTP: counters to read, faults and nights to set, while clients go on calling.

GET  /_fake/counters   operations, errors, accidents, connections, requests per connection
GET  /_fake/buckets    requests a quota bucket and ten-second window
GET  /_fake/world      accounts, credentials, role, regions
POST /_fake/faults     a JSON object with the fields of `Faults` that differ from the default
POST /_fake/night      {"night": 3}
POST /_fake/reset      counters to zero
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from benchmarks.fake_aws import aws_protocols
from benchmarks.fake_aws.faults import Faults

if TYPE_CHECKING:  # they need each other
    from benchmarks.fake_aws.service import Service


class Connections:
    """How many connections there were, and how much each was used."""

    def __init__(self) -> None:
        self.opened = 0
        self.handshakes = 0
        self.requests = 0
        self.ended: list[int] = []
        """Requests of connections that ended: how many had one, two, up to four, up to eight ... (powers of two)."""

    def end(self, requests: int) -> None:
        """A connection ended after so many requests."""
        size = requests.bit_length()
        self.ended.extend([0] * (size + 1 - len(self.ended)))
        self.ended[size] += 1

    def report(self) -> dict[str, Any]:
        """As plain values; `per_connection` is the mean, `ended_after` counts connections by the power of two below."""
        return {
            "connections": self.opened,
            "tls_connections": self.handshakes,
            "requests": self.requests,
            "per_connection": self.requests / self.opened if self.opened else 0.0,
            "ended_after": {str((1 << size) >> 1): count for size, count in enumerate(self.ended) if count},
        }


class Control:
    """Answers paths below /_fake/."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.connections = Connections()

    def answer(self, method: str, target: str, body: bytes) -> bytes:
        """A complete HTTP answer."""
        try:
            told = self._told(method, target.partition("?")[0].removeprefix("/_fake/"), body)
        except (ValueError, TypeError, KeyError) as error:
            return _answer(400, {"message": str(error)})
        return _answer(404, {"message": "no such control"}) if told is None else _answer(200, told)

    def _told(self, method: str, what: str, body: bytes) -> Any:
        service = self._service
        asked = orjson.loads(body) if method == "POST" and body else {}
        if what == "counters":
            return {
                "operations": dict(service.operations),
                "errors": dict(service.errors),
                "accidents": dict(service.accidents),
                **self.connections.report(),
            }
        if what == "buckets":
            return service.quotas.report()
        if what == "world":
            return self._world()
        if method != "POST":
            return None
        if what == "faults":
            service.set_faults(Faults.from_json(asked))
            return service.state.faults.to_json()
        if what == "night":
            service.state.night = int(asked["night"])
            return {"night": service.state.night}
        if what == "reset":
            for counter in (service.operations, service.errors, service.accidents):
                counter.clear()
            self.connections = Connections()
            return {}
        return None

    def _world(self) -> dict[str, Any]:
        world = self._service.state.world
        return {
            "parameters": world.parameters.to_json(),
            "night": self._service.state.night,
            "access_key": world.access_key,
            "secret_key": world.secret_key,
            "management": world.management.id,
            "giant": world.giant,
            "accounts": [
                {"id": each.id, "name": each.name, "state": each.state, "role": each.role} for each in world.accounts
            ],
        }


def _answer(status: int, told: Any) -> bytes:
    body = orjson.dumps(told)
    return aws_protocols.head(status, "rest-json", len(body)) + body
