"""Asks a sidecar whether it is well, for images that have no curl: exit status 0 if it is.

python healthcheck.py                                  # /livez of this container
python healthcheck.py http://stopper:8080/readyz       # another one
"""

from __future__ import annotations

import os
import sys
from urllib.request import ProxyHandler, build_opener

TIMEOUT_S = 3.0


def main() -> int:
    """Ask once; say what is wrong."""
    url = sys.argv[1] if len(sys.argv) > 1 else "/livez"
    if url.startswith("/"):
        url = f"http://127.0.0.1:{os.environ.get('STOPPER_PORT', '8080')}{url}"
    try:
        # Without the proxy that the environment may name: it would be asked for this machine.
        with build_opener(ProxyHandler({})).open(url, timeout=TIMEOUT_S):
            return 0
    except OSError as error:  # an answer of 400 or more, too
        sys.stderr.write(f"{url}: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
