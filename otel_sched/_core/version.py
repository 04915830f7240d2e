"""Floor 1: the version, read by the build and told to OpenTelemetry as the scope's."""

VERSION = "0.1.0"
