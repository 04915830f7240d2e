"""Floor 5: the OpenTelemetry wing: what the core's moments become as spans, metrics and log records."""
