"""Saves and restores the state of the demo's AWS server, so that the organization is built once for all test files.

Building it takes hundreds of calls. Restoring it takes a second or two, in any process.
"""

from __future__ import annotations

import io
import pickle
import threading
from typing import Any, cast

from moto.backends import get_backend
from moto.core.base_backend import BackendDict, BaseBackend

from demo.organization import World
from demo.server import AwsServer

LOCKS = {type(threading.RLock()): threading.RLock, type(threading.Lock()): threading.Lock}
Address = tuple[str, str, str]
"""Identifies a backend of moto: service, account, region."""


def save(server: AwsServer, world: World) -> bytes:
    """Serialize the state of all accounts and the organization."""
    backends = {address: vars(backend) for address, backend in _backends().items()}
    saved = io.BytesIO()
    _Pickler(saved).dump((world, server._members, backends))
    return saved.getvalue()


def restore(server: AwsServer, saved: bytes) -> World:
    """Replace the current state with a saved one and return the organization; clears faults and recorded calls."""
    server.reset()
    # Our own bytes, written by `save` in this test run.
    world, members, backends = _Unpickler(io.BytesIO(saved)).load()
    for address, state in backends.items():
        attributes = vars(_backend(address))
        attributes.clear()
        attributes.update(state)
    server._members.update(members)
    return cast("World", world)


def _backends() -> dict[Address, BaseBackend]:
    # Iterating over moto's mappings yields all possible regions; the methods of dict yield those in use.
    services: list[Any] = BackendDict._instances  # type: ignore[misc]  # moto declares it so
    return {
        (service.service_name, account, region): backend
        for service in services
        for account, regions in dict.items(service)
        for region, backend in dict.items(regions)
    }


def _backend(address: Address) -> BaseBackend:
    """The backend at an address; a new backend stays uninitialized until its state is restored."""
    service, account, region = address
    regions: Any = get_backend(cast("Any", service))[account]
    backend: BaseBackend | None = dict.get(regions, region)
    if backend is None:
        backend = regions.backend.__new__(regions.backend)
        dict.__setitem__(regions, region, backend)
    return backend


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._addresses = {id(backend): address for address, backend in _backends().items()}

    def persistent_id(self, obj: Any) -> Address | None:
        """Serialize references between backends as addresses."""
        return self._addresses[id(obj)] if isinstance(obj, BaseBackend) else None

    def reducer_override(self, obj: Any) -> Any:
        """Replace locks with new ones."""
        if type(obj) in LOCKS:
            return LOCKS[type(obj)], ()
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, pid: Any) -> BaseBackend:
        """Resolve an address of `persistent_id`."""
        return _backend(pid)
