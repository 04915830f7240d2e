"""What several tests need: a decoding OTLP receiver and OpenTelemetry's globals as new."""
