"""Floor 5: where OTLP goes and how it is spoken: arguments, then variables, then a guess."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args
from urllib.parse import SplitResult, urlsplit

from .._core.errors import ConfigurationError

Protocol = Literal["grpc", "http/protobuf"]
Signal = Literal["traces", "metrics", "logs"]

PROTOCOLS: tuple[str, ...] = get_args(Protocol)
SIGNALS: tuple[Signal, ...] = get_args(Signal)
EXPORTERS: Mapping[str, Protocol] = {"otlp_proto_grpc": "grpc", "otlp_proto_http": "http/protobuf"}
INSTALL = "pip install 'otel-sched[otlp]'"

_GRPC_PORT, _HTTP_PORT = 4317, 4318


@dataclass(frozen=True, slots=True)
class Source:
    """An endpoint, and the argument or variable that it comes from."""

    value: str
    name: str

    def __str__(self) -> str:
        return f"{self.name}={masked(self.value)!r}"


@dataclass(frozen=True, slots=True)
class Target:
    """How one signal leaves: its exporter's entry point, and what the variables do not say."""

    exporter: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


def masked(endpoint: str) -> str:
    """Return *endpoint* without a password, for messages."""
    scheme, mark, rest = endpoint.partition("://")
    user, at, host = rest.rpartition("@")
    return f"{scheme}{mark}{user.partition(':')[0]}:***@{host}" if mark and at else endpoint


def check_endpoint(source: Source) -> SplitResult:
    """Return the parts of an http or https URL with a host, or raise saying what is wrong."""
    expected = "expected a URL such as 'http://localhost:4317' (gRPC) or 'http://localhost:4318' (HTTP)"
    try:
        url = urlsplit(source.value)
        port = url.port
    except ValueError as error:
        raise ConfigurationError(f"{source}: {error}; {expected}") from None
    if url.scheme not in ("http", "https") or not url.hostname or port == 0 or source.value != source.value.strip():
        raise ConfigurationError(f"{source} is no http or https URL with a host; {expected}")
    if url.query or url.fragment:
        raise ConfigurationError(f"{source} has a query or a fragment; {expected}")
    return url


def signal_url(endpoint: str, signal: Signal) -> str:
    """Return the URL of *signal* below the base URL *endpoint*."""
    return f"{endpoint.rstrip('/')}/v1/{signal}"


def guess_protocol(endpoint: str | None) -> Protocol | None:
    """Return the protocol that *endpoint* speaks by its look: a path or port 4318 is HTTP, 4317 is gRPC."""
    if endpoint is None:
        return None
    try:
        url = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
        port = url.port
    except ValueError:
        return None
    if url.path.strip("/") or port == _HTTP_PORT:
        return "http/protobuf"
    return "grpc" if port == _GRPC_PORT else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """The arguments of `configure()` that say where telemetry goes; checked by `resolve`."""

    endpoint: str | None = None
    protocol: str | None = None
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    insecure: bool | None = None
    timeout: float | None = None

    def resolve(
        self, signal: Signal, exporter: str, environ: Mapping[str, str], installed: Callable[[str], bool]
    ) -> Target:
        """Return how *signal* leaves.

        Args:
            exporter: `otlp`, or one of `EXPORTERS`, which settles the protocol.
            installed: Tells whether an exporter's package is there.

        Raises:
            ConfigurationError: Endpoint, protocol and `insecure` contradict each other, whoever set them, or
                the exporter they ask for is not installed.
        """
        source = self._source(signal, environ)
        protocol = EXPORTERS.get(exporter) or self._protocol(signal, environ, source, installed)
        name = next(name for name, spoken in EXPORTERS.items() if spoken == protocol)
        if not installed(name):
            raise ConfigurationError(f"the OTLP exporter for {protocol} is not installed: {INSTALL}")
        self._agree(protocol, source)
        return Target(name, self._arguments(signal, protocol))

    def _source(self, signal: Signal, environ: Mapping[str, str]) -> Source | None:
        """Return the endpoint in force for *signal*."""
        if self.endpoint is not None:
            return Source(self.endpoint, "endpoint")
        for name in (f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"):
            if value := environ.get(name, "").strip():
                return Source(value, name)
        return None

    def _protocol(
        self,
        signal: Signal,
        environ: Mapping[str, str],
        source: Source | None,
        installed: Callable[[str], bool],
    ) -> Protocol:
        """Return the protocol in force for *signal*."""
        names = (f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
        said = [("protocol", self.protocol or ""), *((name, environ.get(name, "").strip()) for name in names)]
        for name, value in said:
            if value:
                return check_protocol(name, value)
        guess = guess_protocol(source.value if source else None)
        if guess is not None:
            return guess
        return "http/protobuf" if installed("otlp_proto_http") and not installed("otlp_proto_grpc") else "grpc"

    def _agree(self, protocol: Protocol, source: Source | None) -> None:
        """Raise where endpoint, protocol and `insecure` contradict each other."""
        if source is None:
            return
        if protocol == "grpc" and source.name != "endpoint" and "://" not in source.value:
            return  # gRPC takes host:port as well
        url = check_endpoint(source)
        path = url.path.strip("/")
        if protocol == "grpc" and path:
            raise ConfigurationError(
                f"{source} has a path, which gRPC cannot use: drop it, or choose protocol='http/protobuf'"
            )
        if source.name == "endpoint" and path.endswith(tuple(f"v1/{signal}" for signal in SIGNALS)):
            raise ConfigurationError(
                f"{source} is the URL of one signal: give the base, to which the signal's path is "
                "added, or set OTEL_EXPORTER_OTLP_TRACES_ENDPOINT and its like"
            )
        if self.insecure is not None and self.insecure != (url.scheme == "http"):
            means = "encrypted" if url.scheme == "https" else "not encrypted"
            raise ConfigurationError(
                f"insecure={self.insecure} contradicts {source}, which is {means}: drop it or change the URL"
            )

    def _arguments(self, signal: Signal, protocol: Protocol) -> dict[str, Any]:
        """Return what to construct the exporter with; what is left out it reads from the variables."""
        arguments: dict[str, Any] = {}
        if self.headers is not None:
            arguments["headers"] = {name.lower(): value for name, value in self.headers.items()}
        if self.timeout is not None:
            arguments["timeout"] = self.timeout
        if protocol == "grpc":
            insecure = self.insecure
            if self.endpoint is not None:
                arguments["endpoint"] = self.endpoint
                insecure = urlsplit(self.endpoint).scheme == "http"
            if insecure is not None:
                arguments["insecure"] = insecure
        elif self.endpoint is not None:
            arguments["endpoint"] = signal_url(self.endpoint, signal)
        return arguments


def check_protocol(name: str, value: str) -> Protocol:
    """Return *value* when it is a protocol that Python's exporters speak."""
    for protocol in PROTOCOLS:
        if value == protocol:
            return protocol  # type: ignore[return-value]  # a member of PROTOCOLS
    raise ConfigurationError(f"{name}={value!r} is no OTLP protocol that Python speaks: expected one of {PROTOCOLS}")


def exporter_names(signal: Signal, environ: Mapping[str, str]) -> list[str]:
    """Return the exporters that OTEL_<SIGNAL>_EXPORTER names: `otlp` by default, nothing for `none`."""
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    names = list(dict.fromkeys(name.strip() for name in environ.get(variable, "").split(",") if name.strip()))
    if "none" in names and len(names) > 1:
        raise ConfigurationError(f"{variable}={environ[variable]!r} says none and more than none: expected either")
    return [name for name in names if name != "none"] if names else ["otlp"]
