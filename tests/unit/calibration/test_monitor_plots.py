import sys
from dataclasses import replace
from pathlib import Path

import pytest
from monitor_makers import SETTINGS, a_profile, audit, bernoulli

from calibration.monitor import Monitor
from calibration.monitor.plots import plot_monitor
from calibration.profile import Profile
from probes.errors import InputError, UnsupportedError


@pytest.mark.parametrize("profile", [a_profile(), None], ids=["profile", "no profile"])
@pytest.mark.parametrize("method", ["betting", "mapie"])
def test_a_picture_is_drawn(tmp_path: Path, profile: Profile | None, method: str) -> None:
    monitor = Monitor(replace(SETTINGS, method=method), profile)
    monitor.update(bernoulli(400, 0.4))
    path = tmp_path / "p.png"
    plot_monitor(monitor, path, "title")
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert int.from_bytes(data[16:20], "big") > 1000


def test_one_audit_is_enough_and_none_is_not(tmp_path: Path) -> None:
    monitor = Monitor(SETTINGS, a_profile())
    with pytest.raises(InputError, match="there is no audit to plot"):
        plot_monitor(monitor, tmp_path / "p.png")
    monitor.update([audit(0, marked=False, score=None, cues=0, top_score=None)])
    plot_monitor(monitor, tmp_path / "p.png")
    assert [file.name for file in tmp_path.iterdir()] == ["p.png"]


def test_a_missing_matplotlib_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monitor = Monitor(SETTINGS)
    monitor.update([audit(0)])
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UnsupportedError, match="matplotlib"):
        plot_monitor(monitor, tmp_path / "p.png")
