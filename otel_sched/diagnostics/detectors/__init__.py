"""Floor 5: detectors, one module each: a pure decision, and a small look at what the event loop holds."""
