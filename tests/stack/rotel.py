"""rotel, an OpenTelemetry collector in Rust that has nothing in common with the SDK: had, started, stopped.

It comes as a Python package whose binary needs the libpython of Python 3.11, so it gets a virtual environment of that
version, whatever Python is tested: outside the checkout, beside those of `make`, and kept for the next time.
"""

import fcntl
import os
import shutil
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from otel_sched.testing import wait_until_sync

REQUIREMENT = "rotel==0.0.1a15"
NEEDS = "the collector rotel needs a Python 3.11 with a shared libpython"
_ROOT = Path(__file__).parents[2]
_WHERE = (
    "import importlib.metadata, pathlib, sysconfig, rotel;"
    "importlib.metadata.version('rotel');"  # written last: without it an installation was cut short
    "print(pathlib.Path(rotel.__file__).parent / 'rotel-agent');"
    "print(sysconfig.get_config_var('LIBDIR'))"
)


def installed() -> tuple[str, str]:
    """Return the paths of the collector and of Python 3.11's libraries; install both the first time.

    Raises RuntimeError, with what to do, where there is no Python 3.11 or nothing to install from.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "otel_sched"
    venv = cache / REQUIREMENT.replace("==", "-")
    python = venv / "bin" / "python"
    cache.mkdir(parents=True, exist_ok=True)
    with venv.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another worker may be at it
        with suppress(RuntimeError, OSError):
            return _paths(python)
        shutil.rmtree(venv, ignore_errors=True)
        base = _checked([str(_ROOT / ".ci" / "find-python"), "3.11"], NEEDS).strip()
        _checked([base, "-m", "venv", str(venv)], "no virtual environment for rotel could be made")
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", REQUIREMENT]
        _checked(install, f"{REQUIREMENT} could not be installed")
        return _paths(python)


def _paths(python: Path) -> tuple[str, str]:
    agent, libraries = _checked([str(python), "-c", _WHERE], "rotel is not installed").splitlines()
    return agent, libraries


def _checked(command: list[str], complaint: str) -> str:
    """Run *command* and return what it prints; RuntimeError with *complaint* and its own words if it fails."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, env=kept, capture_output=True, text=True, timeout=50.0, check=False)
    if done.returncode:
        raise RuntimeError(f"{complaint}: {done.stderr.strip() or f'exit status {done.returncode}'}")
    return done.stdout


class Rotel:
    """One collector on free ports of 127.0.0.1 that writes down all it gets; a context manager.

    Args:
        folder: Where it keeps its files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._output = folder / "stdout"
        self._process: subprocess.Popen[bytes] | None = None
        self._ports = (0, 0)

    def endpoint(self, protocol: str) -> str:
        """The URL for *protocol*, `grpc` or `http/protobuf`."""
        return f"http://127.0.0.1:{self._ports[protocol != 'grpc']}"

    def start(self) -> None:
        """Start it and wait until it listens; RuntimeError, with its own words, if it does not."""
        agent, libraries = installed()
        self._ports = free_ports()
        grpc, http = (f"127.0.0.1:{port}" for port in self._ports)
        command = [agent, "start", "--otlp-grpc-endpoint", grpc, "--otlp-http-endpoint", http]
        command += ["--exporter", "blackhole", "--debug-log-verbosity", "detailed"]
        command += [word for signal in ("traces", "metrics", "logs") for word in ("--debug-log", signal)]
        command += ["--pid-file", str(self._folder / "pid"), "--log-file", str(self._folder / "log")]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("ROTEL_", "OTEL_"))}
        environment["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, [libraries, os.environ.get("LD_LIBRARY_PATH")]))
        with self._output.open("wb") as out, (self._folder / "stderr").open("wb") as err:
            self._process = subprocess.Popen(command, env=environment, stdout=out, stderr=err)
        try:
            wait_until_sync(self._listens, description="rotel to listen")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it, by its own id, after it has written down what it still holds."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def output(self) -> str:
        """Return what it has written so far."""
        return self._output.read_text("utf-8")

    def _listens(self) -> bool:
        process = self._process
        if process is None or process.poll() is not None:
            words = (self._folder / "stderr").read_text("utf-8").strip()
            raise RuntimeError(f"{NEEDS}; it ended at once: {words or self.output().strip()}")
        return all(_answers(port) for port in self._ports)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def free_ports() -> tuple[int, int]:
    """Return two ports of 127.0.0.1 on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True
