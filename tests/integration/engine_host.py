"""Imports vLLM once and forks a process for each engine: the import takes longer than most.

    python tests/integration/engine_host.py

Reads a JSON line per engine from standard input: `program` ("engine", "remote" or "stopper"),
`arguments`, `environment`, and `folder`, in which it runs and writes its output to `stdout.txt` and
`stderr.txt`. Answers with two lines: the child's process id, and its exit status at the end. Each
engine lives in a process of its own, so one that dies takes nothing with it, and none sees what
another left behind.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

# In the engine's own process: every further process would import vLLM again.
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"


def program(name: str, arguments: list[str]) -> None:
    """Run one of the programs with these arguments."""
    if name == "stopper":
        from stopper.cli import main

        sys.argv = ["stopper", *arguments]
        main()
        return
    spec, out = (Path(argument) for argument in arguments)
    importlib.import_module(f"{name}_run").run(json.loads(spec.read_text()), out)


def child(order: dict[str, Any]) -> int:
    """Be the process of one engine; give its exit status."""
    os.setsid()
    os.chdir(order["folder"])
    os.environ.update(order["environment"])
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    for number, name in ((1, "stdout.txt"), (2, "stderr.txt")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
    try:
        program(order["program"], order["arguments"])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def main() -> None:
    """Serve until the input ends."""
    # What an engine imports anyway; none of it starts a thread.
    from vllm import LLM  # noqa: F401

    import adapters.vllm.worker  # noqa: F401

    answers = os.dup(1)
    os.dup2(2, 1)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os._exit(child(order))
        os.write(answers, f"{json.dumps({'pid': pid})}\n".encode())
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(answers, f"{json.dumps({'status': status})}\n".encode())


if __name__ == "__main__":
    main()
