"""Run tasks on the workers of a Dask cluster; what they leave is the same as that of the pool.

The client hands out as many runs as the workers have threads, and one more as each ends. So a run is never charged with
the loss of a worker on which it only waited: Dask repeats a run whose worker is lost, and gives it up once that has
happened more than `distributed.scheduler.allowed-failures` times. Needs the extra `cluster`; nothing here is imported
unless a scheduler was named.
"""

from __future__ import annotations

import asyncio
import json
import logging
import queue
import time
import uuid
import warnings
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .cluster_worker import Answer, Order, carry_out, own_code, stop
from .ending import record, refuse, settle
from .limits import Limits
from .pool import Listener, Refusals
from .process import GRACE
from .task import Task

PATIENCE = 10.0  # seconds to reach the scheduler
CLOSING = 2.0  # seconds to part from it, which take their full length where it is gone
LOOK = 2.0  # seconds between two looks at the workers while nothing is heard
INSTALL = "pip install 'dask[distributed]>=2026.8'"


class NoCluster(ValueError):
    """There is no cluster to run on, as a sentence."""


class _Lost(Exception):
    """The scheduler is gone."""


@contextmanager
def connected(address: str) -> Generator[Any]:
    """A Dask client of the scheduler at `address`, closed afterwards.

    Raises NoCluster where dask.distributed is not installed, and after at most about PATIENCE seconds where no
    scheduler answers.
    """
    try:
        from distributed import Client
    except ImportError:
        raise NoCluster(f"--scheduler needs dask.distributed, which is not installed here: {INSTALL}") from None
    # What they log as errors is said in sentences here. Dask gives each of the two a level.
    loggers = {logging.getLogger(name): logging.getLogger(name).level for name in ("distributed", "distributed.client")}
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        _check(address)
        client = Client(address, timeout=PATIENCE, set_as_default=False, name="ravine")
        try:
            yield client
        finally:
            client.close(timeout=CLOSING)
    finally:
        for logger, level in loggers.items():
            logger.setLevel(level)


def _check(address: str) -> None:
    """Ask who is there. A Client that fails to connect would try to close itself for 20 s more, with a traceback."""
    from distributed import Security
    from distributed.core import rpc

    async def ask() -> None:
        security = Security().get_connection_args("client")
        async with asyncio.timeout(PATIENCE):
            async with rpc(address, timeout=PATIENCE, connection_args=security) as there:
                await there.identity()

    try:
        asyncio.run(ask())
    except Exception as error:  # a server of another kind makes Dask raise anything, MemoryError included
        said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        said = f"nothing within {PATIENCE:g} s" if isinstance(error, TimeoutError) else said
        raise NoCluster(
            f"--scheduler {address}: no Dask scheduler answers there ({said}); "
            "start one with `dask scheduler`, which prints its address, such as tcp://192.168.0.1:8786."
        ) from None


def threads(client: Any) -> int:
    """How many runs the workers make at a time, as of now."""
    return sum(client.nthreads().values())


def run_all(tasks: Sequence[Task], client: Any, listener: Listener, limits: Limits | None = None) -> bool:
    """Run every task on the workers of `client`. False if interrupted, or if the scheduler was lost.

    Folders, refusals and records are those of `pool.run_all`. A run whose worker is lost is repeated; the folders of
    runs that have ended are written here, so nothing that was heard of is lost.
    """
    comparison = _Comparison(client, Refusals(listener), limits or Limits())
    waiting = deque(tasks)
    try:
        with comparison.listening():
            return comparison.carry_out(waiting)
    finally:
        comparison.release()


def _give_up(task: Task, error: BaseException) -> dict[str, Any]:
    """The closing event of a run that no worker could make."""
    from distributed import KilledWorker

    if isinstance(error, ModuleNotFoundError) and str(error.name).partition(".")[0] == __name__.partition(".")[0]:
        return refuse(task, "The workers have no ravine, or another version of it: install the same everywhere.")
    said = " ".join(str(error).split())
    reason = f"Its worker could not make this run: {type(error).__name__}{f' ({said})' if said else ''}."
    if isinstance(error, KilledWorker):
        lost = f"Its worker died {error.allowed_failures + 1} times while making this run, the last at "
        reason = lost + f"{error.last_worker.address}; the usual cause is that memory ran out."
    record(task, "failed", reason, "Look into the log of the worker; --memory limits what a run may hold.")
    return {"event": "failed", "reason": reason}


class _Comparison:
    def __init__(self, client: Any, listener: Refusals, limits: Limits):
        self.client, self.listener, self.limits = client, listener, limits
        self.name = f"ravine-{uuid.uuid4().hex[:12]}"
        self.code = own_code()
        self.flying: dict[str, tuple[Task, Any]] = {}  # {key: (task, future)}
        self.events: queue.Queue[tuple[str, str | None]] = queue.Queue()  # key, and a row as text or None at the end
        self.submitted, self.alone = 0, False

    @contextmanager
    def listening(self) -> Generator[None]:
        self.client.subscribe_topic(self.name, self._heard)
        try:
            yield
        finally:
            if self.client.status == "running":
                self.client.unsubscribe_topic(self.name)

    def _heard(self, event: tuple[float, dict[str, str]]) -> None:
        self.events.put((event[1]["key"], event[1]["row"]))

    def carry_out(self, waiting: deque[Task]) -> bool:
        why = "The comparison was interrupted before this run started."
        try:
            while waiting or self.flying:
                self._fill(waiting)
                if self.flying:
                    self._next(LOOK)
            return True
        except _Lost:
            why = "The connection to the scheduler was lost, and with it what this run had reached."
        except KeyboardInterrupt:
            self._wind_down()
        for task in [task for task, _ in self.flying.values()] + list(waiting):
            record(task, "interrupted", why)
        return False

    def _fill(self, waiting: deque[Task]) -> None:
        """Hand out runs, at least one: with no worker there yet it waits for the first."""
        room = self._threads()
        if not room and not self.alone:
            warnings.warn("no worker is there; the runs wait for one.", UserWarning, stacklevel=2)
        self.alone, room = not room, max(1, room)
        while waiting and len(self.flying) < room:
            task = waiting.popleft()
            if self.listener.refuse(task):
                continue
            key = f"{self.name}-{self.submitted}"
            self.submitted += 1
            order = Order(task, self.limits, self.name, self.code)
            future = self.client.submit(carry_out, order, key=key, pure=False)
            self.flying[key] = (task, future)
            future.add_done_callback(lambda future: self.events.put((future.key, None)))

    def _threads(self) -> int:
        try:
            return threads(self.client)
        except Exception as error:  # whatever the connection raises when it breaks
            raise _Lost from error

    def _next(self, timeout: float) -> None:
        """Handle one event, or none within `timeout` seconds."""
        try:
            key, row = self.events.get(timeout=timeout)
        except queue.Empty:
            if self.client.status != "running":
                raise _Lost from None
            return
        if key not in self.flying:
            return  # a row that came after the result
        task, future = self.flying[key]
        if row is not None:
            self.listener(task, {"event": "row", "row": json.loads(row)})
        else:
            event = self._land(task, future)
            del self.flying[key]
            future.release()
            self.listener(task, event)

    def _land(self, task: Task, future: Any) -> dict[str, Any]:
        """The closing event of a run whose Dask task is over, with its files in its folder."""
        if future.status == "error":
            return _give_up(task, future.exception())
        if future.status != "finished":
            raise _Lost
        try:
            answer: Answer = future.result()
        except Exception as error:  # not of the run, for that has ended well
            raise _Lost from error
        folder = Path(task.folder)
        for name, content in answer.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return settle(task, answer.ending)

    def _wind_down(self) -> None:
        """Interrupt the runs, wait until their results are here, and end those that cannot be interrupted."""
        for kill in (False, True):
            try:
                if not self._tell(kill):
                    return
                until = time.monotonic() + GRACE
                while self.flying and time.monotonic() < until:
                    self._next(0.5)
            except KeyboardInterrupt:
                continue
            except _Lost:
                return

    def _tell(self, kill: bool) -> bool:
        """Tell all workers to stop; False if there are none, so that no answer will come."""
        if not self._threads():
            return False
        try:
            self.client.run(stop, self.name, kill=kill, on_error="ignore")
        except Exception as error:
            raise _Lost from error
        return True

    def release(self) -> None:
        """Tell the scheduler to forget what is still there: the workers then end such runs."""
        for _, future in self.flying.values():
            future.release()
