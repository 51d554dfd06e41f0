"""Runs an application on a free port, in a thread, for as long as a block lasts."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from stopper.scripted.app import create_app
from stopper.scripted.script import Script

_START_S, _STOP_S = 30.0, 10.0


@contextmanager
def serving(what: Any = None, **config: Any) -> Iterator[str]:
    """Serve, and yield the base URL, such as http://127.0.0.1:40123.

    Parameters
    ----------
    what
        A `Script`, None for the built-in one, or any ASGI application.
    config
        Of `uvicorn.Config`.

    Raises
    ------
    RuntimeError
        If the application does not start.

    """
    app = create_app(what) if what is None or isinstance(what, Script) else what
    options = {"log_config": None, "ws": "none", "timeout_graceful_shutdown": 1, **config}
    server = uvicorn.Server(uvicorn.Config(app, **options))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            deadline = time.monotonic() + _START_S
            while not server.started:
                if not thread.is_alive() or time.monotonic() > deadline:
                    raise RuntimeError("the application did not start; the log above says why")
                time.sleep(0.002)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(_STOP_S)
            server.force_exit = True
