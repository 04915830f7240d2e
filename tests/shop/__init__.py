"""A program with known numbers, and what has to arrive of its telemetry at whatever receives it.

`plan` says how many jobs of which kind there are, `program` runs them, `launch` starts it in a process of its own, and
`checks` and `metric_checks` compare what arrived with the plan.
"""

import sys

if "pytest" in sys.modules:  # not so in the program's own process
    sys.modules["pytest"].register_assert_rewrite(f"{__name__}.checks", f"{__name__}.metric_checks")
