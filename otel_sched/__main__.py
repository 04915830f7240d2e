"""Floor 6: `python -m otel_sched`, for where the command `otel-sched` is not on the path."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
