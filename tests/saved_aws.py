"""The state of the demo's AWS as bytes: the made-up organization is built once, and each test file starts from a copy of it.

Building it takes hundreds of calls and several new RSA keys of 4096 bits. Restoring it takes a second or two, in any process.
"""

from __future__ import annotations

import io
import pickle
import threading
from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from moto.backends import get_backend
from moto.core.base_backend import BackendDict, BaseBackend

from demo.organization import World
from demo.server import AwsServer

LOCKS = {type(threading.RLock()): threading.RLock, type(threading.Lock()): threading.Lock}
Address = tuple[str, str, str]
"""Where a backend of moto's is found: service, account, region."""


def save(server: AwsServer, world: World) -> bytes:
    """The state of all accounts, with the organization that it holds."""
    backends = {address: vars(backend) for address, backend in _backends().items()}
    saved = io.BytesIO()
    _Pickler(saved).dump((world, server._members, backends))
    return saved.getvalue()


def restore(server: AwsServer, saved: bytes) -> World:
    """Put the state of `save` in the place of the present one, faults and recorded calls included."""
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
    # moto's own mappings yield every region that could be; dict's methods yield those in use.
    services: list[Any] = BackendDict._instances  # type: ignore[misc]  # moto declares it so
    return {
        (service.service_name, account, region): backend
        for service in services
        for account, regions in dict.items(service)
        for region, backend in dict.items(regions)
    }


def _backend(address: Address) -> BaseBackend:
    """The backend with this address; a new one is left empty, because its state is about to come."""
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
        """A backend is referred to, wherever another one mentions it."""
        return self._addresses[id(obj)] if isinstance(obj, BaseBackend) else None

    def reducer_override(self, obj: Any) -> Any:
        """Private keys are kept as DER; a lock is replaced by a new one."""
        if isinstance(obj, RSAPrivateKey | EllipticCurvePrivateKey):
            return _private_key, (obj.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),)
        if type(obj) in LOCKS:
            return LOCKS[type(obj)], ()
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, pid: Any) -> BaseBackend:
        """The backend that `persistent_id` referred to."""
        return _backend(pid)


def _private_key(content: bytes) -> Any:
    # Checking an RSA key again takes longer than all the rest.
    return load_der_private_key(content, password=None, unsafe_skip_rsa_key_validation=True)
