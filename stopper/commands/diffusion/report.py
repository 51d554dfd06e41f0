"""``stopper diffusion report``: one page that shows what a halting artifact promises and did."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stopper.commands.diffusion._options import Alphas, ArtifactFolder, Decodes


def report(
    artifact: ArtifactFolder,
    out: Annotated[
        Path, typer.Option(help="Folder for report.html and the plots.", metavar="FOLDER")
    ],
    traces: Decodes,
    alpha: Alphas = None,
) -> None:
    """Write one self-contained page for people, and its plots as PNG files.

    The promise in plain words, whether it was kept, passes against agreement beside the papers'
    settings, where it halts, a breakdown by level, provenance, a glossary.
    """
    # Imported here: `stopper --help` and the other commands need none of it.
    from rich.console import Console

    from calibration.halting_outcomes import HaltingEvaluator
    from calibration.page.report import write_page
    from probes.errors import InputError
    from stopper.commands.diffusion._shared import held_out, load_halting
    from stopper.halting_policy import HaltingPolicy
    from stopper.halting_reporting import page_of

    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; give a folder for the page and its plots")
    loaded = load_halting(artifact)
    policy = HaltingPolicy.from_artifact(loaded)
    asked = list(dict.fromkeys(alpha or [policy.alpha]))
    for share in asked:
        policy.require(share)  # refuses a wrong or unaffordable alpha before anything is read
    evaluator = HaltingEvaluator(held_out(loaded, traces), str(traces))
    words = ["stopper", "diffusion", "report", str(artifact), "--out", str(out)]
    words += ["--traces", str(traces)]
    for share in asked:
        words += ["--alpha", f"{share:g}"]
    found = page_of(loaded, evaluator, asked, artifact, traces, words)
    with Console(stderr=True).status("drawing"):
        files = write_page(found, "halting.html", out)
    console = Console()
    console.print(found.verdict.headline + ".", soft_wrap=True, highlight=False)
    console.print(found.verdict.sentence, soft_wrap=True, highlight=False, markup=False)
    console.print(f"Wrote {files[0]} and {len(files) - 1} plots", soft_wrap=True, highlight=False)
