"""Runs one engine in remote mode, and a sidecar that is killed under load and started again.

Phases, each with its counters: all is well; audits; the sidecar is killed in the middle; it is
away; it is back.
"""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


class SidecarProcess:
    """`stopper serve` in a process of its own, on one port."""

    def __init__(self, command: list[str], port: int, log: Path) -> None:
        self.port = port
        self._command = [part.format(port=port) for part in command]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        end = time.monotonic() + 60
        while True:
            try:
                url = f"http://127.0.0.1:{self.port}/readyz"
                with urllib.request.urlopen(url, timeout=1) as answer:
                    answer.read()
                return
            except (urllib.error.URLError, OSError):
                assert self._process.poll() is None, self._log.read_text()
                assert time.monotonic() < end, "the sidecar does not come up"
                time.sleep(0.05)

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


def counters(llm: Any) -> dict[str, dict[str, int]]:
    (rank,) = llm.collective_rpc("stopper_counters")
    return dict(rank)


def serve(llm: Any, sidecar: SidecarProcess, spec: dict[str, Any], end_ids: Any) -> dict[str, Any]:
    from transformers import AutoTokenizer

    from adapters.vllm.generation import Sampling, generate, outer_id
    from adapters.vllm.prompts import read_prompts

    prompts = read_prompts(Path(spec["prompts"]), spec["limit"])
    tokenizer = AutoTokenizer.from_pretrained(spec["model"])
    sampling = Sampling(**spec["sampling"])
    phases: dict[str, Any] = {}

    def phase(name: str, mode: int | str = 1, limit: int = spec["limit"]) -> None:
        ids = [prompt.token_ids(tokenizer) for prompt in prompts[:limit]]
        params = [sampling.params(f"{prompt.id}#{name}", mode) for prompt in prompts[:limit]]
        before = time.monotonic()
        traces = generate(llm, ids, params, end_ids)
        seconds = time.monotonic() - before
        (rank,) = llm.collective_rpc("stopper_decisions", args=(1_000_000,))
        decided = {outer_id(record["request_id"]): record for record in rank}
        phases[name] = {
            "seconds": seconds,
            "counters": counters(llm),
            "traces": [
                {
                    "id": prompt.id,
                    "prompt_ids": trace.prompt_ids,
                    "output_ids": trace.output_ids,
                    "finish_reason": trace.finish_reason,
                    "decision": decided[trace.request_id],
                }
                for prompt, trace in zip(prompts, traces, strict=False)
            ],
        }

    phase("before")
    phase("audit", "audit")
    killer = threading.Timer(0.3 * phases["before"]["seconds"], sidecar.kill)
    killer.start()
    phase("killed")
    killer.join()
    phase("away")
    sidecar.start()
    answered = counters(llm)["remote"]["answered"]
    end = time.monotonic() + 60
    while counters(llm)["remote"]["answered"] == answered:  # until the breaker lets it be asked
        assert time.monotonic() < end, "the engine does not come back to the sidecar"
        phase("waiting", limit=4)
        time.sleep(0.2)
    phase("after")
    return phases


def run(spec: dict[str, Any], out: Path) -> None:
    from adapters.vllm.engine import EngineOptions, running_engine
    from adapters.vllm.settings import PluginSettings, RemoteSettings
    from stopper.artifact import Artifact

    closing = Artifact.load(spec["artifact"]).manifest.closing
    assert closing is not None
    sidecar = SidecarProcess(spec["sidecar"], spec["port"], out / "sidecar.log")
    settings = PluginSettings(
        artifact=Path(spec["artifact"]),
        alpha=spec["alpha"],
        decisions=out / "decisions.jsonl",
        remote=RemoteSettings(
            url=f"http://127.0.0.1:{spec['port']}",
            deadline_ms=spec["deadline_ms"],
            api_key_file=Path(spec["api_key_file"]),
        ),
    )
    options = EngineOptions(
        model=spec["model"],
        dtype="float32",
        max_model_len=512,
        max_num_seqs=16,
        enforce_eager=True,
    )
    sidecar.start()
    try:
        with running_engine(options, settings) as llm:
            result = serve(llm, sidecar, spec, closing.end_ids)
    finally:
        sidecar.kill()
    (out / "result.json").write_text(json.dumps(result))
