"""What the options of ``stopper train`` mean, and when they are refused."""

from __future__ import annotations

from collections.abc import Mapping

from calibration.traces import TraceMeta
from probes.errors import InputError


def choose_layers(text: str | None, meta: TraceMeta) -> tuple[int, ...]:
    """Read a list such as "9,16,last"; all layers of the store by default.

    Raises
    ------
    InputError
        If it is no such list, or names a layer that was not collected.

    """
    if text is None:
        return meta.layers
    numbers = set()
    for part in text.split(","):
        word = part.strip()
        if not (word == "last" or (word.isdecimal() and int(word) >= 1)):
            raise InputError(
                f"--layers {text!r}: {word!r} is neither a layer (1, 2, ...) nor 'last'. "
                "Give a list such as 9,16,last"
            )
        numbers.add(meta.model.num_layers if word == "last" else int(word))
    layers = tuple(sorted(numbers))
    meta.columns(layers)
    return layers


def parse_widths(text: str) -> tuple[int, ...]:
    """Read a list of widths such as "256,64".

    Raises
    ------
    InputError
        If it is no such list.

    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) >= 1 for word in words):
        raise InputError(f"--hidden-dims {text!r}: give widths such as 256,64")
    return tuple(int(word) for word in words)


def refuse_options(options: Mapping[str, object], why: str) -> None:
    """Refuse options that were given (are not None) and would do nothing here.

    Raises
    ------
    InputError
        Naming the first.

    """
    for name, value in options.items():
        if value is not None:
            raise InputError(f"{name} {why}. Drop it")


def complete_fractions(train: float, select: float, test: float) -> dict[str, float]:
    """Return the share of prompts per split; calibration gets what is left.

    Raises
    ------
    InputError
        If a share is negative, nothing is left to train on, or they exceed 1.

    """
    shares = {"train": train, "select": select, "test": test}
    for name, share in shares.items():
        if not 0.0 <= share <= 1.0:
            raise InputError(f"--{name}-fraction {share:g}: give a share between 0 and 1")
    if train == 0.0:
        raise InputError("--train-fraction 0: leaves nothing to fit on")
    rest = 1.0 - sum(shares.values())
    if rest < -1e-9:
        raise InputError(f"the fractions sum to {sum(shares.values()):g}; at most 1 is possible")
    shares["calibrate"] = rest if rest > 1e-9 else 0.0
    return shares
