"""Floor 5: the export of spans and log records: bounded buffers, a thread that sends, and what became of it all.

Telemetry may be lost, but never unnoticed, and never at the cost of the work: a full buffer refuses, a batch that is
not taken is tried again, and each item is counted as exported, as dropped with a reason, or as waiting.
"""
