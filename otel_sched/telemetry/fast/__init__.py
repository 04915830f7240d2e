"""Floor 5: the same telemetry for less: local histograms, light spans."""
