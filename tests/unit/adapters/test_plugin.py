"""vLLM's configuration with and without the `stopper` key; no engine is started."""

from __future__ import annotations

import copy
import json
import shutil
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from engine_simulator import END, MODEL, THINK
from makers import CREATED, artifact, spec

from adapters.vllm.plugin import WORKER, _validate, register, remarks
from stopper.errors import ArtifactError, InputError, StopperError, TooFewTraces, UnsupportedError

# vLLM's own imports warn about many things; only these tests import it.
pytestmark = pytest.mark.filterwarnings("ignore")


def configure(additional: Any = None, **fields: Any) -> Any:
    from vllm.engine.arg_utils import EngineArgs

    arguments: dict[str, Any] = {"model": str(MODEL), "dtype": "float32", "enforce_eager": True}
    if additional is not None:
        arguments["additional_config"] = additional
    made = EngineArgs(**arguments | fields)
    register()
    return made.create_engine_config()


@pytest.fixture(scope="module")
def plain() -> Any:
    return configure()


@pytest.fixture(scope="module")
def fitting(plain: Any) -> dict[str, Any]:
    """Manifest fields of an artifact for the tiny reasoner."""
    from adapters.vllm.fingerprint import model_fingerprint

    known = model_fingerprint(plain)
    told = json.loads((MODEL / "config.json").read_text())
    assert known.hidden_size == told["hidden_size"]
    assert known.num_layers == told["num_hidden_layers"]
    assert known.vocab_size == told["vocab_size"]
    layers = (2, known.num_layers)
    return {"model": known, "probe": spec(hidden_size=known.hidden_size, layers=layers)}


def saved(folder: Path, fitting: dict[str, Any], **changes: Any) -> str:
    artifact(**fitting | changes).save(folder)
    return str(folder)


def test_registering_twice_wraps_once(plain: Any) -> None:
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.engine.input_processor import InputProcessor

    before = EngineArgs.create_engine_config, InputProcessor.process_inputs
    register()
    register()
    assert (EngineArgs.create_engine_config, InputProcessor.process_inputs) == before
    assert not hasattr(EngineArgs.create_engine_config.stopper_wraps, "stopper_wraps")


def test_without_the_key_nothing_changes(plain: Any) -> None:
    from vllm.engine.arg_utils import EngineArgs

    made = EngineArgs(model=str(MODEL), dtype="float32", enforce_eager=True)
    untouched = EngineArgs.create_engine_config.stopper_wraps(made)
    assert plain.compute_hash() == untouched.compute_hash()
    assert plain.parallel_config.worker_cls == untouched.parallel_config.worker_cls != WORKER
    assert plain.additional_config == untouched.additional_config
    other = configure({"other": {"stopper": 1}})
    assert other.parallel_config.worker_cls == untouched.parallel_config.worker_cls
    assert other.additional_config == {"other": {"stopper": 1}}


def test_with_an_artifact_the_worker_is_ours_and_the_cache_key_its_own(
    tmp_path: Path, plain: Any, fitting: dict[str, Any]
) -> None:
    one = saved(tmp_path / "one", fitting)
    two = saved(tmp_path / "two", fitting, stopper_version="0.2.0")
    given = {"stopper": {"artifact": one, "alpha": 0.2}, "other": 1}
    configs = [configure(given), configure({"stopper": {"artifact": two, "alpha": 0.2}})]
    assert {config.parallel_config.worker_cls for config in configs} == {WORKER}
    assert given == {"stopper": {"artifact": one, "alpha": 0.2}, "other": 1}  # the caller's own
    assert configs[0].additional_config["other"] == 1
    hashes = {config.additional_config["stopper"]["artifact_sha256"] for config in configs}
    assert len(hashes) == 2
    assert len({config.compute_hash() for config in (plain, *configs)}) == 3


def test_collecting_needs_no_artifact() -> None:
    cues = {"think_start_ids": [THINK], "think_end_ids": [END]}
    config = configure({"stopper": {"collect": {"layers": [2, 4], "cues": cues}}})
    assert config.parallel_config.worker_cls == WORKER
    with pytest.raises(UnsupportedError, match=r"the probe reads layers \[99\], the model has"):
        configure({"stopper": {"collect": {"layers": [99], "cues": cues}}})


def test_an_artifact_of_another_model(tmp_path: Path) -> None:
    artifact().save(tmp_path / "dir")
    with pytest.raises(ArtifactError, match="calibrated on another model") as caught:
        configure({"stopper": {"artifact": str(tmp_path / "dir")}})
    for words in (str(tmp_path / "dir"), ", expected 6", "Collect, train and"):
        assert words in str(caught.value)


def test_an_artifact_for_another_dtype(tmp_path: Path, fitting: dict[str, Any]) -> None:
    folder = saved(tmp_path / "dir", fitting)
    with pytest.raises(ArtifactError, match="dtype is 'bfloat16', expected 'float32'"):
        configure({"stopper": {"artifact": folder}}, dtype="bfloat16")


Case = tuple[dict[str, Any], dict[str, Any], dict[str, Any], type[StopperError], list[str]]
CASES: dict[str, Case] = {
    "expired": (
        {"expires": CREATED + timedelta(days=1)},
        *({}, {}, ArtifactError, ["{dir}/manifest.json: expired", "stopper calibrate"]),
    ),
    "uncalibrated": (
        {"calibrated": False},
        *({}, {}, ArtifactError, ["artifact is not calibrated", "Run `stopper calibrate`"]),
    ),
    "alpha too small": (
        {},
        *({"alpha": 1e-3}, {}, TooFewTraces, ["{dir}: 60 calibration", "alpha 0.001", "larger"]),
    ),
    "worker": (
        {},
        *({}, {"worker_cls": "mine.Worker"}, UnsupportedError),
        ["--worker-cls mine.Worker", "leave it at auto"],
    ),
    "unknown key": ({}, {"aplha": 0.1}, {}, InputError, ["--additional-config stopper: aplha"]),
    "alpha": ({}, {"alpha": 1.5}, {}, InputError, ["--additional-config stopper: alpha", "less"]),
    "missing": (
        {},
        *({"artifact": "/no/such"}, {}, ArtifactError),
        ["/no/such/manifest.json: No such file", "`stopper calibrate` wrote"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_does_not_start(tmp_path: Path, fitting: dict[str, Any], case: str) -> None:
    changes, asked, engine, kind, words = CASES[case]
    folder = saved(tmp_path / "dir", fitting, **changes)
    with pytest.raises(kind) as caught:
        configure({"stopper": {"artifact": folder} | asked}, **engine)
    assert "\n" not in str(caught.value)
    for part in words:
        assert part.format(dir=folder) in str(caught.value)


def test_another_engine_and_a_date_of_expiry_are_remarked() -> None:
    served = {"vllm": "0.33.0", "runner": "v2", "device": "cuda"}
    assert remarks(artifact(engine=dict(served)).manifest, served) == []
    assert remarks(artifact().manifest, served) == []  # an older artifact: engine unknown
    made = artifact(engine=served | {"vllm": "0.32.0"}, expires=CREATED + timedelta(days=1))
    engine, date = remarks(made.manifest, served)
    assert "vllm 0.32.0, here 0.33.0" in engine
    assert "runner" not in engine
    assert "ends on 2025-01-03" in date
    assert "restart" in date


def test_an_artifact_made_from_scores_has_no_probe(tmp_path: Path) -> None:
    artifact(model=None, probe=None, cues=None, closing=None).save(tmp_path / "dir")
    with pytest.raises(ArtifactError, match=r"own scores, it has no probe.*stopper train"):
        configure({"stopper": {"artifact": str(tmp_path / "dir")}})


def test_a_probe_with_memory_is_refused_before_the_model_is_loaded(
    tmp_path: Path, fitting: dict[str, Any]
) -> None:
    kind = fitting["probe"].model_copy(update={"kind": "gru", "hidden_dims": (3,)})
    folder = saved(tmp_path / "dir", fitting, probe=kind)
    with pytest.raises(UnsupportedError) as caught:
        configure({"stopper": {"artifact": folder}})
    for part in (folder, "is a gru", "cannot serve yet", "stopper train --probe linear"):
        assert part in str(caught.value)


def test_a_model_of_the_hubs_cache_is_known_by_its_id_and_commit(
    plain: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adapters.vllm.fingerprint import model_fingerprint

    # Laid out as the hub's own library does; its constants are read at import.
    commit = "0123456789abcdef" * 2 + "01234567"
    home = tmp_path / "models--org--tiny"
    (home / "refs").mkdir(parents=True)
    (home / "refs/main").write_text(commit)
    shutil.copytree(MODEL, home / "snapshots" / commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path), raising=False)
    offline, online = (copy.copy(plain.model_config) for _ in range(2))
    offline.model, online.model = str(home / "snapshots" / commit), "org/tiny"
    for model in (offline, online):
        config = SimpleNamespace(model_config=model, parallel_config=plain.parallel_config)
        found = model_fingerprint(config)
        assert (found.model, found.revision) == ("org/tiny", commit)
    online.revision = "v2"  # not in the cache: the name is all that is known
    assert model_fingerprint(config).revision == "v2"


def test_the_facts_of_a_real_configuration(plain: Any) -> None:
    from adapters.vllm.compatibility import refusals
    from adapters.vllm.fingerprint import engine_facts

    facts = engine_facts(plain, "auto")
    assert (facts.device, facts.runner_type) == ("cpu", "generate")
    assert refusals(facts, (1, facts.num_layers)) == []


@pytest.mark.parametrize("positional", [True, False])
def test_bad_options_are_refused_where_a_server_answers_400(positional: bool) -> None:
    from vllm.exceptions import VLLMValidationError

    seen: list[Any] = []
    checked = _validate(lambda self, *args, **kwargs: seen.append(args or kwargs))
    on, off = (
        SimpleNamespace(vllm_config=SimpleNamespace(additional_config=additional))
        for additional in ({"stopper": {}}, {})
    )

    def ask(who: Any, extra: Any) -> None:
        params = SimpleNamespace(extra_args=extra)
        if positional:
            checked(who, "id", [1], params)
        else:
            checked(who, request_id="id", prompt=[1], params=params)

    ask(on, {"stopper": 0})
    ask(on, None)
    ask(off, {"stopper": "whatever"})
    with pytest.raises(VLLMValidationError, match="vllm_xargs: stopper='whatever'"):
        ask(on, {"stopper": "whatever"})
    with pytest.raises(VLLMValidationError, match="stopper='fixed' needs 'threshold'"):
        ask(on, {"stopper": "fixed"})
    assert len(seen) == 3


def test_the_v2_processor_forces_once_and_wherever_a_stop_may_come() -> None:
    import torch

    from adapters.vllm.v2_processor import ForcingProcessor
    from adapters.vllm.watch import Forced

    forcing = ForcingProcessor()
    # An audit may be told to stop thinking.
    asks = {None: True, 0: False, "audit": True, "fixed": True, "nonsense": False, 1: True}
    for mode, wanted in asks.items():
        extra = None if mode is None else {"stopper": mode}
        assert forcing.add_request(0, SimpleNamespace(extra_args=extra)) == wanted
    forcing.forced = Forced(torch.tensor([1]), torch.tensor([3]))
    assert forcing.apply(torch.zeros(2, 5), None).argmax(dim=1).tolist() == [0, 3]
    assert forcing.apply(torch.zeros(2, 5), None).any().item() is False


@pytest.mark.parametrize(
    ("remote", "fields", "error", "words"),
    [
        ({}, {"tensor_parallel_size": 2}, UnsupportedError, "remote mode with several ranks"),
        (
            {},
            {
                "speculative_config": {
                    "method": "ngram",
                    "num_speculative_tokens": 3,
                    "prompt_lookup_max": 3,
                }
            },
            UnsupportedError,
            "remote mode beside speculative decoding",
        ),
        ({"api_key_file": "missing"}, {}, InputError, "remote.api_key_file: missing: No such file"),
        ({}, {}, None, ""),
    ],
)
def test_what_remote_mode_cannot_serve_is_refused_at_start(
    remote: dict[str, Any],
    fields: dict[str, Any],
    error: type[Exception] | None,
    words: str,
    fitting: dict[str, Any],
    tmp_path: Path,
) -> None:
    stopper = {
        "artifact": saved(tmp_path / "artifact", fitting),
        "alpha": 0.3,
        "remote": {"url": "http://127.0.0.1:1", **remote},
    }
    if error is None:
        assert configure({"stopper": stopper}, **fields).parallel_config.worker_cls == WORKER
        return
    with pytest.raises(error, match=words):
        configure({"stopper": stopper}, **fields)
