"""What a scripted engine does wrong, and when: written in the script, a header or a call."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from probes.validation import Finite, Record, parse
from stopper.errors import InputError

HEADER = "X-Scripted-Fault"

Kind = Literal[
    "status", "delay", "hang", "garbage", "close", "half_close", "no_done", "wrong_length",
    "huge_chunk", "slow_drip",
]  # fmt: skip


class Fault(Record):
    """One way to fail.

    Attributes
    ----------
    kind
        status: answer `code`. delay: wait `seconds` before the first byte. hang: send nothing more.
        garbage: send lines that are no events. close: end the connection. half_close: end our side
        of it only. no_done: leave out the last event. wrong_length: a Content-Length that is off
        `by` bytes. huge_chunk: one event of `bytes` bytes. slow_drip: `bytes` bytes at a time,
        `seconds` apart.
    after
        Events to send first (pieces of 64 bytes where the response is no stream). 0: before the
        first byte, headers included.
    times
        Fail so often, then work; None: always. A header counts by its text.
    tag
        Makes the header's text another one.

    """

    kind: Kind
    code: Annotated[int, Field(ge=400, le=599)] = 500
    retry_after: Annotated[int, Field(ge=0)] | None = None
    after: Annotated[int, Field(ge=0)] = 0
    seconds: Annotated[Finite, Field(ge=0)] = 1.0
    bytes: Annotated[int, Field(ge=1, le=1 << 28)] | None = None
    by: int = 100
    times: Annotated[int, Field(ge=1)] | None = None
    tag: str = ""


def read_header(text: str) -> Fault:
    """Read ``close; after=3``.

    Raises
    ------
    InputError
        Naming what is wrong.

    """
    kind, *rest = (part.strip() for part in text.split(";"))
    given: dict[str, Any] = {"kind": kind}
    for part in rest:
        name, mark, value = part.partition("=")
        if not mark:
            raise InputError(f"{HEADER}: {part!r} is not NAME=VALUE")
        name, value = name.strip(), value.strip()
        try:
            given[name] = value if name == "tag" else float(value) if "." in value else int(value)
        except ValueError:
            raise InputError(f"{HEADER}: {name}={value!r} is no number") from None
    if isinstance(given.get("seconds"), int):
        given["seconds"] = float(given["seconds"])
    return parse(Fault, given, HEADER, "Write KIND or KIND; NAME=VALUE; ...")


class FaultBook:
    """Which fault a request meets: its header's, else the one set for all, else its trace's."""

    def __init__(self) -> None:
        self.for_all: Fault | None = None
        self._met: dict[str, int] = {}

    def set(self, fault: Fault | None) -> None:
        """Let every request meet a fault, or none."""
        self.for_all = fault
        self._met.pop("all", None)

    def meet(self, header: str | None, trace: str, of_trace: Fault | None) -> Fault | None:
        """Return the fault of a request, and count it.

        Raises
        ------
        InputError
            If the header cannot be read.

        """
        if header is not None:
            return self._counted(f"header {header}", read_header(header))
        return self._counted("all", self.for_all) or self._counted(f"trace {trace}", of_trace)

    def _counted(self, key: str, fault: Fault | None) -> Fault | None:
        if fault is None or fault.times is None:
            return fault
        met = self._met.get(key, 0)
        if met >= fault.times:
            return None
        self._met[key] = met + 1
        return fault
