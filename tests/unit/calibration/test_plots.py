import sys
from pathlib import Path

import pytest

from calibration.calibrate import calibrate
from calibration.plots import plot_evaluations
from calibration.report import Evaluator, Rule
from calibration.simulate import SimulatorSettings, simulate
from calibration.table import CueTable
from probes.errors import InputError, UnsupportedError

FOUND = calibrate(simulate(SimulatorSettings(200, seed=1)), "disagree", 0.1)
RULE = Rule("ltt", "disagree", 0.9, FOUND.worst_scores, FOUND.good_scores, FOUND.bad_scores)


def png_size(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


@pytest.mark.parametrize("gold", [True, False], ids=["accuracy", "no gold"])
@pytest.mark.parametrize("alphas", [(0.1,), (0.05, 0.1, 0.3)], ids=["one", "several"])
def test_a_picture_is_drawn(tmp_path: Path, gold: bool, alphas: tuple[float, ...]) -> None:
    table = simulate(SimulatorSettings(100, seed=2))
    if not gold:
        columns = {name: getattr(table, name) for name in CueTable.__dataclass_fields__}
        columns["full_correct"] = columns["full_correct"] * 0 - 1
        table = CueTable(**columns)
    evaluator = Evaluator(table, RULE)
    path = tmp_path / "p.png"
    plot_evaluations([evaluator.at(alpha) for alpha in alphas], path, "title")
    width, height = png_size(path)
    assert width > 1000 and height > 400


def test_nothing_to_draw_and_nowhere_to_draw_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no alpha"):
        plot_evaluations([], tmp_path / "p.png")
    one = Evaluator(simulate(SimulatorSettings(50, seed=2)), RULE).at(0.1)
    with pytest.raises(InputError, match="cannot be written"):
        plot_evaluations([one], tmp_path / "no" / "p.png")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_matplotlib_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Evaluator(simulate(SimulatorSettings(50, seed=2)), RULE).at(0.1)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UnsupportedError, match="matplotlib"):
        plot_evaluations([one], tmp_path / "p.png")
