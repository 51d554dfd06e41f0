"""One artifact succeeds another while serving, on all replicas; an expired one falls silent."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import anyio.to_thread
from msgspec.structs import replace

from stopper.errors import StopperError
from stopper.service.catalog import Served, UnknownModel
from stopper.service.control import Active, Control
from stopper.service.problems import ProblemError
from stopper.service.runtime import Runtime
from stopper.service.store import StoreUnavailable

logger = logging.getLogger(__name__)

LOOK_S = 1.0
RETRY_S = 5.0


class Succession:
    """Loads and rolls back artifacts, and follows what other replicas did.

    The control record names the version and the folder that serve a model. Each replica loads the
    folder of that name from its own root. One that finds another version there, or none, decides
    nothing for the model, says so in `/readyz`, and tries again every few seconds. Until it has
    looked it decides by the version before: every trace keeps the version it began under.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._catalog = runtime.catalog
        self._board = runtime.board
        self._changed = asyncio.Event()
        self._failed: dict[str, tuple[str, float]] = {}
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def load(self, model: str | None, folder: str | None, by: str) -> Served:
        """Serve a folder from now on, on all replicas.

        Parameters
        ----------
        model
            None where only one is served.
        folder
            Its name below the root; None reads the active one again.
        by
            Whose doing it is, for the log.

        Raises
        ------
        ProblemError
            If the model is unknown, the folder cannot be served, or the store is away; then
            nothing was changed.

        """
        async with self._lock:
            name = self._model(model)
            if folder is None and (known := self._board.current.active.get(name)) is not None:
                folder = known.folder
            try:
                served = await anyio.to_thread.run_sync(self._catalog.read, name, folder)
            except StopperError as error:
                raise ProblemError("unprocessable", self._said(error)) from None
            await self._succeed(served, by)
            return served

    async def rollback(self, model: str | None, by: str) -> Served:
        """Serve the version before the active one again, on all replicas.

        Raises
        ------
        ProblemError
            If there was none, or it is gone from memory and from its folder.

        """
        async with self._lock:
            name = self._model(model)
            record = self._board.current.active.get(name)
            if record is None or record.previous_version is None or record.previous_folder is None:
                raise ProblemError("conflict", f"No artifact of {name!r} was replaced before.")
            try:
                served = await self._find(name, record.previous_version, record.previous_folder)
            except StopperError as error:
                raise ProblemError("conflict", self._said(error)) from None
            await self._succeed(served, by)
            return served

    def reload_all(self) -> None:
        """Read all active folders again; what cannot be served is logged and changes nothing."""
        task = asyncio.get_running_loop().create_task(self._reload_all())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reload_all(self) -> None:
        logger.warning("SIGHUP: reading all artifacts again")
        for served in self._catalog.all_active():
            try:
                await self.load(served.model, None, "SIGHUP")
            except ProblemError as error:
                logger.error("model %s: %s; the active artifact stays", served.model, error)

    def _model(self, model: str | None) -> str:
        if model is None:
            only = self._catalog.only()
            if only is None:
                known = ", ".join(served.model for served in self._catalog.all_active()) or "none"
                raise ProblemError("bad-request", f"Name the model; served are: {known}.")
            return only.model
        try:
            return self._catalog.active(model).model
        except UnknownModel as error:
            raise ProblemError("unknown-model", str(error)) from None

    def _said(self, error: StopperError) -> str:
        """Return the error without the folders above the artifact: they are nobody's business."""
        text = str(error)
        roots = {served.folder.parent for served in self._catalog.all_active()}
        for root in {*roots, self._runtime.settings.artifact_root} - {None}:
            text = text.replace(f"{root}/", "")
        return text

    async def _succeed(self, served: Served, by: str) -> None:
        before = self._catalog.active(served.model)

        def change(control: Control) -> Control:
            old = control.active.get(served.model)
            if old is None:
                version, folder = before.version, before.folder.name
            else:
                version, folder = old.version, old.folder
            if version == served.version and folder == served.folder.name:
                return control
            now = datetime.now(UTC).isoformat(timespec="seconds")
            active = Active(served.version, served.folder.name, version, folder, now)
            return replace(control, active={**control.active, served.model: active})

        try:
            await self._board.change(change)
        except StoreUnavailable as error:
            raise ProblemError(
                "unavailable", f"The store is away, nothing was changed: {error}"
            ) from None
        self._serve(served)
        logger.warning("model %s: artifact %s by %s", served.model, served.version, by)

    def _serve(self, served: Served) -> None:
        if self._catalog.active(served.model).version != served.version:
            self._catalog.activate(served)
        self._failed.pop(served.model, None)
        self._runtime.unready.pop(f"artifact of {served.model}", None)
        self._look_at(served.model)

    async def _find(self, model: str, version: str, folder: str) -> Served:
        held = self._catalog.version(version)
        if held is not None and held.model == model:
            return held
        served = await anyio.to_thread.run_sync(self._catalog.read, model, folder)
        if served.version != version:
            raise StopperError(
                f"folder {folder!r} holds version {served.version}, not {version}; put the right "
                "one there, or load another by /v1/artifacts/load"
            )
        return served

    async def follow(self) -> None:
        """Serve what the control record names, as far as it can be loaded."""
        loop = asyncio.get_running_loop()
        for model, record in self._board.current.active.items():
            try:
                active = self._catalog.active(model)
            except UnknownModel:
                continue  # another replica's
            if active.version == record.version:
                if model in self._failed:
                    self._serve(active)
                continue
            failed = self._failed.get(model)
            if failed is not None and failed[0] == record.version and loop.time() < failed[1]:
                continue
            async with self._lock:
                if self._board.current.active.get(model) != record:
                    continue
                try:
                    self._serve(await self._find(model, record.version, record.folder))
                except StopperError as error:
                    self._failed[model] = (record.version, loop.time() + RETRY_S)
                    self._runtime.unready[f"artifact of {model}"] = self._said(error)
                    self._catalog.withhold(model, self._said(error))
        for served in self._catalog.all_active():
            self._look_at(served.model)

    def _look_at(self, model: str) -> None:
        """Silence an artifact that expired; let it speak again when a valid one came."""
        served = self._catalog.active(model)
        part = f"artifact of {model}"
        if served.artifact.manifest.expired(datetime.now(UTC)):
            why = (
                f"artifact {served.version} has expired; renew it by `stopper calibrate` and load "
                "it by /v1/artifacts/load or SIGHUP"
            )
            self._runtime.degraded[part] = why
            if model not in self._failed:
                self._catalog.withhold(model, why)
        else:
            self._runtime.degraded.pop(part, None)
            if model not in self._failed:
                self._catalog.withhold(model, None)

    @contextlib.asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Follow in the background."""
        self._board.on_change(lambda _: self._changed.set())
        await self.follow()
        task = asyncio.create_task(self._follow_forever())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _follow_forever(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._changed.wait()
            self._changed.clear()
            await self.follow()
