"""`python -m benchmarks.fake_aws --preset tiny --seed 1 --port 0 --port-file port.txt`: serve until interrupted."""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import json
import signal
from dataclasses import replace
from pathlib import Path

from benchmarks.fake_aws.client import tls_context
from benchmarks.fake_aws.faults import Faults
from benchmarks.fake_aws.presets import PRESETS, Parameters
from benchmarks.fake_aws.server import Server
from benchmarks.fake_aws.service import Service
from benchmarks.fake_aws.world_state import World


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fake_aws", description="A local AWS endpoint with a generated organization."
    )
    parser.add_argument("--preset", choices=PRESETS, default="tiny", help="size of the organization")
    parser.add_argument("--seed", type=int, help="seed of the generated organization")
    parser.add_argument(
        "--world", type=json.loads, default={}, help="JSON object of parameters that override those of the preset"
    )
    parser.add_argument("--faults", type=json.loads, default={}, help="JSON object of faults")
    parser.add_argument("--day", type=int, default=0, help="day of the simulated history")
    parser.add_argument("--port", type=int, default=0, help="TCP port on 127.0.0.1 (0: any free port)")
    parser.add_argument("--port-file", type=Path, help="file to write the port to once it is open")
    parser.add_argument(
        "--tls-dir", type=Path, help="serve TLS with the certificates in this directory (created if missing)"
    )
    options = parser.parse_args(arguments)
    values = {**PRESETS[options.preset].to_json(), **options.world}
    parameters = Parameters.from_json(values)
    if options.seed is not None:
        parameters = replace(parameters, seed=options.seed)
    service = Service(World(parameters), Faults.from_json(options.faults), options.day)
    use_uvloop()
    # The generated objects are long-lived, so frequent garbage collection only costs time.
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
    asyncio.run(serve(service, options.port, options.port_file, options.tls_dir))


def use_uvloop() -> None:
    """Use the faster event loop if it is installed."""
    try:
        importlib.import_module("uvloop").install()
    except ModuleNotFoundError:
        return


async def serve(service: Service, port: int, port_file: Path | None, tls_directory: Path | None) -> None:
    """Serve until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    context = tls_context(tls_directory)[0] if tls_directory else None
    server = Server(service, context)
    port = await server.start(port)
    world = service.state.world
    if port_file:
        partial = port_file.with_suffix(".partial")
        partial.write_text(f"{port}\n", encoding="ascii")
        partial.replace(port_file)  # atomic: a reader never sees half a port
    else:
        scheme = "https://localhost" if context else "http://127.0.0.1"
        print(f"AWS listens on {scheme}:{port}", flush=True)
        print(f"AWS_ACCESS_KEY_ID={world.access_key} AWS_SECRET_ACCESS_KEY={world.secret_key}", flush=True)
    await stop.wait()
    await server.stop()


if __name__ == "__main__":
    main()
