"""Floor 6: where the demo's telemetry goes: what is set, else what answers at the default, else nowhere."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from ..telemetry.endpoint import SIGNALS, masked

DEFAULT_PORTS = {"grpc": 4317, "http/protobuf": 4318}
PROBE = 0.25
"""Seconds to wait for an answer at a default port."""
NOWHERE = "No collector. Get one: docker run -p 3000:3000 -p 4317:4317 grafana/otel-lgtm"


@dataclass(frozen=True, slots=True)
class Destination:
    """What to tell `configure()`; None leaves it to the `OTEL_*` variables."""

    endpoint: str | None = None
    protocol: str | None = None
    variables: Mapping[str, str] | None = None
    """Set in the environment, where nothing else was: they turn export off."""
    shown: str = ""
    """Where to, for people."""


def choose(
    endpoint: str | None, protocol: str | None, environ: Mapping[str, str], ports: Mapping[str, int] = DEFAULT_PORTS
) -> Destination:
    """Return where to export to. It looks whether anything listens, for at most half a second."""
    if endpoint is not None:
        return Destination(endpoint, protocol, shown=masked(endpoint))
    variables = ("OTEL_EXPORTER_OTLP_ENDPOINT", *(f"OTEL_EXPORTER_OTLP_{each.upper()}_ENDPOINT" for each in SIGNALS))
    for name in variables:
        if value := environ.get(name, "").strip():
            return Destination(None, protocol, shown=f"{masked(value)} ({name})")
    exporters = {signal: environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip() for signal in SIGNALS}
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return Destination(None, protocol, shown="nowhere (OTEL_SDK_DISABLED)")
    if all(exporters.values()):
        where = ", ".join(dict.fromkeys(exporters.values())).replace("none", "nowhere")
        return Destination(None, protocol, shown=f"{where} (OTEL_*_EXPORTER)")
    asked = (protocol or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "")).strip()
    for spoken, port in ports.items():
        if asked in ("", spoken) and _answers(port):
            found = f"http://127.0.0.1:{port}"
            return Destination(found, spoken, shown=found)
    off = {f"OTEL_{signal.upper()}_EXPORTER": "none" for signal, exporter in exporters.items() if not exporter}
    return Destination(None, protocol, variables=off)


def apply(destination: Destination) -> None:
    """Set the variables that *destination* needs."""
    os.environ.update(destination.variables or {})


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), PROBE):
            return True
    except OSError:
        return False
