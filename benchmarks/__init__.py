"""Ratios: what otel_sched costs against plain asyncio, and against OpenTelemetry written by hand. See README.md."""
