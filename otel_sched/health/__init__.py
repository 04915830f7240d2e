"""Floor 5: whether the process lives, is ready and keeps up, over HTTP."""

from .app import HealthApp as HealthApp
from .readiness import Objective as Objective
from .server import HealthServer as HealthServer
from .server import serve as serve

__all__ = ["HealthApp", "HealthServer", "Objective", "serve"]
