"""Floor 6: the order-processing workload that `otel-sched demo` runs and shows; an application like a user's."""
