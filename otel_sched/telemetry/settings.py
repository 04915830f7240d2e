"""Floor 5: the arguments of `configure()`, checked before anything is built. Imports no SDK."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from .._core.errors import ConfigurationError
from .endpoint import Destination, Source, check_endpoint, check_protocol, masked
from .keep import Keep

_INFO = logging.INFO  # inside the class below, `logging` is a field


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `configure()` was asked for; `configure` documents each field.

    Raises:
        TypeError: A value is of the wrong type.
        ConfigurationError: A value makes no sense, or two contradict each other.
    """

    service_name: str | None = None
    service_version: str | None = None
    endpoint: str | None = None
    protocol: str | None = None
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    insecure: bool | None = None
    resource: Mapping[str, Any] | None = None
    sampler: Any = None
    sampling_ratio: float | None = None
    keep: Keep | None = None
    traces: bool = True
    metrics: bool = True
    logs: bool = True
    metric_interval: float | None = None
    export_timeout: float | None = None
    logging: bool = True
    structlog: bool | None = None
    log_level: int = _INFO
    span_processors: Sequence[Any] = ()
    log_processors: Sequence[Any] = ()
    metric_readers: Sequence[Any] = ()
    shutdown_on_exit: bool = True
    exit_timeout: float = 5.0

    def __post_init__(self) -> None:
        for name in ("service_name", "service_version", "endpoint", "protocol"):
            _check_text(name, getattr(self, name))
        for name in ("traces", "metrics", "logs", "logging", "shutdown_on_exit"):
            _check_bool(name, getattr(self, name))
        for name in ("insecure", "structlog"):
            if getattr(self, name) is not None:
                _check_bool(name, getattr(self, name))
        for name in ("metric_interval", "export_timeout", "exit_timeout"):
            check_seconds(name, getattr(self, name), optional=name != "exit_timeout")
        if not (self.traces or self.metrics or self.logs):
            raise ConfigurationError("traces, metrics and logs are all off: nothing is left to configure")
        self._check_sampling()
        self._check_destination()
        self._check_resource()
        self._check_parts()

    def _check_sampling(self) -> None:
        if self.sampler is not None and not callable(getattr(self.sampler, "should_sample", None)):
            raise TypeError(f"sampler must be an OpenTelemetry Sampler, not {self.sampler!r}")
        if self.keep is not None:
            self._check_keep(self.keep)
        if self.sampling_ratio is None:
            return
        if self.sampler is not None:
            raise ConfigurationError("sampler and sampling_ratio both say what to keep: give one of them")
        _check_number("sampling_ratio", self.sampling_ratio)
        if not 0.0 <= self.sampling_ratio <= 1.0:
            raise ConfigurationError(f"sampling_ratio={self.sampling_ratio!r} is outside 0 to 1")
        if not self.traces:
            raise ConfigurationError("sampling_ratio is given, but traces are off: drop one of the two")

    def _check_keep(self, keep: Any) -> None:
        if not isinstance(keep, Keep):
            raise TypeError(f"keep must be an otel_sched.Keep, such as Keep(slow=1.0), not {keep!r}")
        if not self.traces:
            raise ConfigurationError("keep is given, but traces are off: drop one of the two")

    def _check_destination(self) -> None:
        if self.protocol is not None:
            check_protocol("protocol", self.protocol)
        if self.endpoint is not None:
            check_endpoint(Source(self.endpoint, "endpoint"))
        _check_mapping("headers", self.headers)
        for name, value in (self.headers or {}).items():
            if not isinstance(value, str):
                raise TypeError(f"headers[{name!r}] must be a string, not {type(value).__name__}")

    def _check_resource(self) -> None:
        _check_mapping("resource", self.resource)
        for name, value in (self.resource or {}).items():
            plain = value if isinstance(value, list | tuple) else (value,)
            if not all(isinstance(each, str | bool | int | float) for each in plain):
                raise TypeError(f"resource[{name!r}] must be a string, number, bool or a list of one of these")
        for argument, attribute in (("service_name", "service.name"), ("service_version", "service.version")):
            said, also = getattr(self, argument), (self.resource or {}).get(attribute)
            if said is not None and also is not None and said != also:
                raise ConfigurationError(f"{argument}={said!r} contradicts resource[{attribute!r}]={also!r}: drop one")

    def _check_parts(self) -> None:
        """Check processors and readers, and make tuples of them, so that settings can be compared."""
        object.__setattr__(self, "log_level", _level(self.log_level))
        for name, signal, method in (
            ("span_processors", "traces", "on_end"),
            ("log_processors", "logs", "force_flush"),
            ("metric_readers", "metrics", "collect"),
        ):
            parts = getattr(self, name)
            if not isinstance(parts, list | tuple) or not all(callable(getattr(p, method, None)) for p in parts):
                raise TypeError(f"{name} must be a sequence of OpenTelemetry SDK objects, not {parts!r}")
            if parts and not getattr(self, signal):
                raise ConfigurationError(f"{name} is given, but {signal} are off: drop one of the two")
            object.__setattr__(self, name, tuple(parts))

    @property
    def destination(self) -> Destination:
        """Where telemetry goes, as far as the arguments say."""
        return Destination(
            endpoint=self.endpoint,
            protocol=self.protocol,
            headers=self.headers,
            insecure=self.insecure,
            timeout=self.export_timeout,
        )

    @property
    def resource_attributes(self) -> dict[str, Any]:
        """The resource's attributes, as far as the arguments say."""
        named = {"service.name": self.service_name, "service.version": self.service_version}
        return {
            **(self.resource or {}),
            **{name: value for name, value in named.items() if value is not None},
        }

    def differences(self, other: "Settings") -> list[str]:
        """Return a phrase for each argument in which *other* differs; never a header's value."""
        return [
            f"{each.name}: {self._shown(each.name)} before, {other._shown(each.name)} now"
            for each in fields(self)
            if getattr(self, each.name) != getattr(other, each.name)
        ]

    def _shown(self, name: str) -> str:
        value = getattr(self, name)
        if name == "headers":
            return "none" if value is None else f"headers {sorted(value)}"
        return repr(masked(value) if name == "endpoint" and value else value)


def check_seconds(name: str, value: float | None, *, optional: bool = False) -> None:
    """Raise unless *value* is a positive, finite number of seconds (or None, where that is allowed)."""
    if value is None and optional:
        return
    _check_number(name, value)
    if not (value is not None and 0.0 < value < math.inf):
        raise ConfigurationError(f"{name}={value!r} must be a positive, finite number of seconds")


def _check_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")


def _check_text(name: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {type(value).__name__}")
    if not value.strip():
        raise ConfigurationError(f"{name} is empty: leave it out for the default")


def _check_bool(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {value!r}")


def _check_mapping(name: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping, not {type(value).__name__}")
    for key in value:
        if not isinstance(key, str) or not key.strip():
            raise TypeError(f"{name} must have non-empty strings for keys, not {key!r}")


def _level(value: object) -> int:
    """Return a level of `logging`, given as its number or its name."""
    if isinstance(value, str):
        number = logging.getLevelNamesMapping().get(value.upper())
        if number is None:
            raise ConfigurationError(f"log_level={value!r} is no level of logging: expected 'INFO' or its like")
        return number
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"log_level must be a level of logging, as number or name, not {value!r}")
    if value < 0:
        raise ConfigurationError(f"log_level={value!r} is below zero: expected a level of logging")
    return value
