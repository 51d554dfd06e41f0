from __future__ import annotations

import pytest
from pydantic import ValidationError

from probes.errors import InputError
from probes.spec import ProbeSpec, default_layers
from probes.validation import parse


def test_widths() -> None:
    spec = ProbeSpec(kind="mlp", layers=(2, 5), hidden_size=10, hidden_dims=(7, 3))
    assert spec.input_dim == 20
    assert spec.widths == (20, 7, 3, 1)


def test_json_round_trip() -> None:
    spec = ProbeSpec(kind="linear", layers=(1, 3), hidden_size=4, shaping="rise", rise_weight=0.25)
    assert ProbeSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"layers": ()}, "at least one layer"),
        ({"layers": (3, 1)}, "ascend"),
        ({"layers": (1, 1)}, "ascend"),
        ({"layers": (0,)}, "layers.0"),
        ({"layers": ("1",)}, "layers.0"),
        ({"layers": (True,)}, "layers.0"),
        ({"hidden_size": 0}, "hidden_size"),
        ({"hidden_size": 4.0}, "hidden_size"),
        ({"hidden_dims": (4,)}, "linear probe has none"),
        ({"kind": "mlp"}, "needs at least one"),
        ({"kind": "forest"}, "kind"),
        ({"shaping": "ema"}, "shaping"),
        ({"rise_weight": float("nan")}, "rise_weight"),
        ({"rise_weight": -0.5}, "rise_weight"),
        ({"width": 3}, "width"),
    ],
)
def test_refuses(change: dict[str, object], says: str) -> None:
    fields: dict[str, object] = {"kind": "linear", "layers": (1,), "hidden_size": 4}
    with pytest.raises(InputError, match=says) as caught:
        parse(ProbeSpec, fields | change, "probe.json", "Mend it")
    assert str(caught.value).startswith("probe.json: ")
    assert str(caught.value).endswith("Mend it")


def test_is_immutable() -> None:
    spec = ProbeSpec(kind="linear", layers=(1,), hidden_size=4)
    with pytest.raises(ValidationError, match="frozen"):
        spec.hidden_size = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("depth", "layers"),
    [
        (1, (1,)),
        (2, (1, 2)),
        (3, (1, 2, 3)),
        (28, (9, 14, 19, 28)),  # LYNX: 9, 16, last
        (32, (11, 16, 21, 32)),  # LYNX: 8, 16, 24, last
        (36, (12, 18, 24, 36)),  # LYNX: the same
        (64, (21, 32, 43, 64)),  # LYNX: 16, 32, 48, last
    ],
)
def test_default_layers(depth: int, layers: tuple[int, ...]) -> None:
    assert default_layers(depth) == layers


@pytest.mark.parametrize("depth", range(1, 130))
def test_default_layers_are_valid_for_any_depth(depth: int) -> None:
    layers = default_layers(depth)
    assert ProbeSpec(kind="linear", layers=layers, hidden_size=1).layers[-1] == depth
    assert len(layers) >= min(3, depth)


def test_default_layers_refuses_no_layer() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        default_layers(0)
