"""Floor 5: one attempt to send a batch, through an exporter of the SDK; the sender decides what follows from it.

The official OTLP exporters retry by themselves, blind to what else waits, and say only whether it worked in the end.
So their transports are used instead of their `export()`: client, credentials, headers and compression are theirs. Where
they do not look as expected, and for every other exporter, `export()` it is.
"""

import copy
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Protocol

from ..endpoint import Signal
from .answers import TAKEN, Answer, Parcel, Verdict, partial, retry_after
from .grpc import GrpcTransport
from .pack import Packer, Pieces, packer_of

_OFFICIAL = ("OTLPSpanExporter", "OTLPMetricExporter", "OTLPLogExporter")
_RETRY_STATUS = frozenset({429, 502, 503, 504})


class Transport(Protocol):
    """How a batch leaves."""

    @property
    def pieces(self) -> Pieces | None:
        """What makes bytes of items before they wait here; None where items wait as they are."""
        ...

    def pack(self, batch: Sequence[Any]) -> Parcel:
        """Return what `send` takes; made once, however often the batch is tried."""
        ...

    def send(self, parcel: Parcel, timeout: float) -> Answer:
        """Try once, for about *timeout* seconds."""
        ...

    def renew(self) -> None:
        """Forget connections and locks that a forked child shares with its parent."""

    def close(self) -> None:
        """Let go of connections; whatever is under way may end early."""

    @property
    def timeout(self) -> float:
        """Seconds that one attempt may take."""
        ...


class PlainTransport:
    """Any exporter, by its public methods; it says no more than whether it worked."""

    timeout = 10.0
    pieces = None

    def __init__(self, exporter: Any) -> None:
        self._exporter = exporter

    def pack(self, batch: Sequence[Any]) -> Parcel:
        """Return the batch as it is: such an exporter encodes by itself."""
        return Parcel(batch, len(batch))

    def send(self, parcel: Parcel, timeout: float) -> Answer:
        """Export the batch; it cannot be told how long that may take."""
        result = self._exporter.export(parcel.data)
        if getattr(result, "name", "SUCCESS") == "SUCCESS":
            return TAKEN
        return Answer(Verdict.REFUSED, f"{type(self._exporter).__name__} failed")

    def renew(self) -> None:
        """Do nothing: there is no public way to."""

    def close(self) -> None:
        """Shut the exporter down."""
        self._exporter.shutdown()


class HttpTransport:
    """The official OTLP/HTTP exporters' client, for bytes."""

    def __init__(self, exporter: Any, pack: Packer, response: Any) -> None:
        self._exporter = exporter
        self._client = exporter._client
        self._pack = pack
        self.pieces = pack.pieces
        self._response = response
        self._largest: int = exporter._max_request_size
        self.timeout: float = float(self._client._timeout)
        self._left: list[Any] = []

    def pack(self, batch: Sequence[Any]) -> Parcel:
        """Return the request's body, compressed."""
        data, count, failed = self._pack(batch)
        if 0 < self._largest < len(data):
            return Parcel(None, count, failed)
        return Parcel(self._client._compress(data), count, failed)

    def send(self, parcel: Parcel, timeout: float) -> Answer:
        """Post it."""
        result = self._client._submit(parcel.data, timeout)
        status: int | None = result.status_code
        if status is None:
            return self._broken(result.error)
        if 200 <= status < 300:
            return self._taken(result, parcel.items)
        reason = f"HTTP {status} {result.reason or ''}".strip()
        if status in _RETRY_STATUS:
            return Answer(Verdict.LATER, reason, after=retry_after(result.headers()))
        return Answer(Verdict.TOO_LARGE if status == 413 else Verdict.REFUSED, reason)

    def _broken(self, error: Exception | None) -> Answer:
        """Judge a request that got no answer: only one that cannot even be made is given up."""
        later = isinstance(error, OSError) and not isinstance(error, ValueError)
        later = later or bool(self._client._transport.is_connection_error(error))
        return Answer(Verdict.LATER if later else Verdict.REFUSED, repr(error))

    def _taken(self, result: Any, items: int) -> Answer:
        try:
            body = result.content()
            return partial(self._response.FromString(body), items) if body else TAKEN
        except Exception:  # the status says that it was taken; a body that nobody can read says nothing
            return TAKEN

    def renew(self) -> None:
        """Give the session new connections; the old ones are kept, for to close them could wait for a lock."""
        session: Any = getattr(self._client._transport, "_session", None)
        for prefix, adapter in list(getattr(session, "adapters", {}).items()):
            self._left.append(adapter)
            session.adapters[prefix] = copy.copy(adapter)  # pickling's way: settings without connections

    def close(self) -> None:
        """Shut the exporter down."""
        self._exporter.shutdown()


def transport_of(exporter: Any, signal: Signal, pieces: Pieces | None = None) -> Transport:
    """Return the way to send *exporter*'s batches; *pieces* is the encoder of other exporters, to be shared."""
    return otlp_transport_of(exporter, signal, pieces) or PlainTransport(exporter)


def otlp_transport_of(exporter: Any, signal: Signal, pieces: Pieces | None = None) -> Transport | None:
    """Return the way to send batches as an official OTLP exporter does; None for every other exporter."""
    kind = type(exporter)
    official = kind.__name__ in _OFFICIAL and "export" not in vars(exporter)
    try:
        if official and kind.__module__.startswith("opentelemetry.exporter.otlp.proto.http."):
            _expect(exporter._client, "_compress", "_submit")
            _expect(exporter._client._transport, "is_connection_error")
            return HttpTransport(exporter, packer_of(signal, pieces), _response(signal))
        if official and kind.__module__.startswith("opentelemetry.exporter.otlp.proto.grpc."):
            _expect(exporter, "_initialize_channel_and_stub")
            _expect(exporter._channel, "unary_unary")
            return GrpcTransport(exporter, packer_of(signal, pieces), _response(signal), signal)
    except (AttributeError, ImportError, TypeError, ValueError):
        pass  # another version than those known: its public methods will do
    return None


def _expect(owner: Any, *methods: str) -> None:
    for name in methods:
        if not callable(getattr(owner, name)):
            raise TypeError(name)


def _response(signal: Signal) -> Any:
    """Return the message class of the receiver's answer."""
    name = {"traces": "trace"}.get(signal, signal)
    path = f"opentelemetry.proto.collector.{name}.v1.{name}_service_pb2"
    module = sys.modules.get(path) or import_module(path)
    return getattr(module, f"Export{name.capitalize()}ServiceResponse")
