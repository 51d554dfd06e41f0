"""The drift alarm on all replicas: raised by figures, taken back by an operator."""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import UTC, datetime

import msgspec

from stopper.service.audits.vault import Beginning
from stopper.service.control import Alarm, Board, Control, Rearmed
from stopper.service.problems import ProblemError

logger = logging.getLogger(__name__)


class Alarms:
    """Raises and takes back alarms in the control record, and logs them on every replica.

    Parameters
    ----------
    board
        While it names an alarm, that artifact stops nothing on any replica.

    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self._told: frozenset[str] = frozenset()
        board.on_change(self._tell)

    async def raise_for(self, beginning: Beginning, figures: str) -> None:
        """Raise the alarm of a version, unless it stands or was re-armed since.

        Raises
        ------
        StoreUnavailable
            Nothing was changed.

        """
        alarm = Alarm(now(), f"{figures[:1].upper()}{figures[1:]}.")

        def change(control: Control) -> Control:
            known = beginning.version in control.alarms
            if known or Beginning.of(beginning.version, control).number != beginning.number:
                return control
            alarms = {**control.alarms, beginning.version: alarm}
            return msgspec.structs.replace(control, alarms=alarms)

        await self._board.change(change)

    async def re_arm(self, version: str, by: str, why: str, broken: Collection[str]) -> Rearmed:
        """Take an alarm back and begin a new state.

        Parameters
        ----------
        broken
            Versions whose state cannot be read: they may begin anew without an alarm.

        Raises
        ------
        ProblemError
            409 where nothing is to be taken back.
        StoreUnavailable
            Nothing was changed.

        """
        moment = now()

        def change(control: Control) -> Control:
            if version not in control.alarms and version not in broken:
                raise ProblemError(
                    "conflict",
                    f"No alarm of artifact {version} stands. Each new beginning may raise a false "
                    "alarm anew: none is made without need.",
                )
            times = Beginning.of(version, control).number + 1
            return msgspec.structs.replace(
                control,
                alarms={name: alarm for name, alarm in control.alarms.items() if name != version},
                rearmed={**control.rearmed, version: Rearmed(by, why, moment, times)},
            )

        return (await self._board.change(change)).rearmed[version]

    def _tell(self, control: Control) -> None:
        for version in control.alarms.keys() - self._told:
            logger.error(
                "ALARM: artifact %s stops nothing any more. %s Look at what has changed, calibrate "
                "on today's traffic, or re-arm by POST /v1/alarm/re-arm",
                version,
                control.alarms[version].sentence,
            )
        for version in self._told - control.alarms.keys():
            rearmed = control.rearmed.get(version)
            if rearmed is not None:
                logger.warning(
                    "the alarm of artifact %s was taken back by %r, time %d",
                    version,
                    rearmed.by,
                    rearmed.times,
                )
        self._told = frozenset(control.alarms)


def now() -> str:
    """Return the time as ISO 8601, UTC."""
    return datetime.now(UTC).isoformat()
