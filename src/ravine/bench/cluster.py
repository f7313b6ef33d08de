"""Run tasks on the workers of a Dask cluster; what they leave is the same as that of the pool.

The client hands out as many runs as the workers have threads, each to a worker that it names, and one more as each
ends. So a run is never charged with the loss of a worker on which it only waited, and none goes to a worker that is not
fit for it: each is asked once whether it has the same code and can keep the limits. (A worker without ravine would not
even fail: Dask 2026.8 cannot read a message that holds code it does not have, and hears no more of the scheduler.)
Needs the extra `cluster`; nothing here is imported unless a scheduler was named.
"""

from __future__ import annotations

import asyncio
import json
import logging
import queue
import time
import uuid
import warnings
from collections import Counter, deque
from collections.abc import Generator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from .cluster_worker import INSTALL_SAME, Answer, Order, carry_out, own_code, stop, unfit
from .ending import never_started, record, settle
from .limits import Limits
from .pool import Listener, Refusals
from .process import GRACE
from .task import Task

PATIENCE = 10.0  # seconds to reach the scheduler
CLOSING = 2.0  # seconds to part from it, which take their full length where it is gone
FETCH = 30.0  # seconds for the result of a run that has ended, after which its worker is taken for lost with it
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


def threads(client: Any) -> dict[str, int]:
    """{address: how many runs it makes at a time} of the workers, as of now."""
    return client.nthreads()


def refusal(client: Any, limits: Limits) -> str | None:
    """Why the workers that are there cannot make runs, as a sentence; None if one can, or none is there yet."""
    answers = _ask(client, list(threads(client)), limits).values()
    return next(iter(answers)) if answers and all(answers) else None


def _ask(client: Any, workers: list[str], limits: Limits) -> dict[str, str | None]:
    """{address: why that worker is not fit for runs, None if it is}, of those that answered."""
    if not workers:
        return {}
    answers = client.run(unfit, own_code(), limits, workers=workers, on_error="return")
    for address, error in [(address, a) for address, a in answers.items() if isinstance(a, Exception)]:
        # Where it could not read the question, Dask gives the error itself or its words in another.
        said = " ".join(repr(error).split())
        if "ModuleNotFoundError" in said and "ravine" in said:
            answers[address] = f"The worker {address} has no ravine, or another version of it: {INSTALL_SAME}"
        elif isinstance(error, OSError):  # it is gone, or did not answer in time: to be asked again
            del answers[address]
        else:
            answers[address] = f"The worker {address} cannot say whether it is fit for runs: {said}."
    return answers


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


def _first_slots(threads: dict[str, int]) -> dict[str, int]:
    """{address: the slot of its first thread}: workers on one machine count on, so that they pin to different cores."""
    from distributed.comm import get_address_host

    found, taken = {}, Counter[str]()
    for address, number in threads.items():
        host = get_address_host(address)
        found[address] = taken[host]
        taken[host] += number
    return found


def _give_up(task: Task, error: BaseException) -> dict[str, Any]:
    """The closing event of a run that no worker could make."""
    from distributed import KilledWorker

    said = " ".join(str(error).split())
    if isinstance(error, KilledWorker):
        return _killed(task, error.allowed_failures + 1, error.last_worker.address)
    return _fail(task, f"Its worker could not make this run: {type(error).__name__}{f' ({said})' if said else ''}.")


def _killed(task: Task, times: int, address: str) -> dict[str, Any]:
    died = f"Its worker died {times} times while making this run, the last at {address}"
    return _fail(task, f"{died}; the usual cause is that memory ran out.")


def _fail(task: Task, reason: str) -> dict[str, Any]:
    record(task, "failed", reason, "Look into the log of the worker; --memory limits what a run may hold.")
    return {"event": "failed", "reason": reason}


class _Flight(NamedTuple):
    """A run that was handed out, to the worker at `address`."""

    task: Task
    future: Any
    address: str


class _Comparison:
    def __init__(self, client: Any, listener: Refusals, limits: Limits):
        from dask import config

        self.client, self.listener, self.limits = client, listener, limits
        self.name = f"ravine-{uuid.uuid4().hex[:12]}"
        self.code = own_code()
        self.flying: dict[str, _Flight] = {}  # by key
        self.events: queue.Queue[tuple[str, str | None]] = queue.Queue()  # key, and a row as text or None at the end
        self.asked: dict[str, str | None] = {}  # {address of a worker: why it is not fit}
        self.adrift: set[str] = set()  # keys of runs whose results were lost with their worker
        self.lost = Counter[str]()  # {folder of a run: workers that were lost with it}
        self.allowed = int(config.get("distributed.scheduler.allowed-failures"))
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
        try:
            while waiting or self.flying:
                self._fill(waiting)
                if self.flying or waiting:
                    self._next(LOOK)
            return True
        except _Lost:
            what, begun = "The connection to the scheduler was lost", ", and with it what this run had reached."
        except KeyboardInterrupt:
            self._wind_down()
            what, begun = "The comparison was interrupted", ", and the worker of this run did not answer."
        flying = [flight.task for flight in self.flying.values()]
        for task in flying:
            record(task, "interrupted", what + begun)
        for task in (task for task in waiting if task not in flying):
            never_started(task, what + " before this run started.")
        return False

    def _fill(self, waiting: deque[Task]) -> None:
        """Hand out runs to the threads that are free, if any are."""
        there = self._threads()
        self._repeat(waiting, there)
        fit = {a: number for a, number in there.items() if a in self.asked and self.asked[a] is None}
        if not fit and waiting and not self.alone:
            none = "no worker that is fit is there" if there else "no worker is there"
            warnings.warn(f"{none}; the runs wait for one.", UserWarning, stacklevel=2)
        self.alone = not fit
        slots = _first_slots({address: number for address, number in there.items() if number > 1})
        busy = Counter(flight.address for flight in self.flying.values())
        free = deque(address for address, number in fit.items() for _ in range(number - busy[address]))
        while waiting and free:
            task = waiting[0]  # leaves the list when it is in the other one, whenever Ctrl-C comes
            if not self.listener.refuse(task):
                self._submit(task, free[0], slots.get(free[0]))
                free.popleft()
            waiting.popleft()

    def _submit(self, task: Task, address: str, slot: int | None) -> None:
        self.listener(task, {"event": "start"})
        key = f"{self.name}-{self.submitted}"
        self.submitted += 1
        order = Order(task, self.limits, self.name, self.code, slot)
        future = self.client.submit(carry_out, order, key=key, pure=False, workers=[address])
        self.flying[key] = _Flight(task, future, address)
        future.add_done_callback(lambda future: self.events.put((future.key, None)))

    def _repeat(self, waiting: deque[Task], there: dict[str, int]) -> None:
        """Take back the runs whose worker has gone; Dask would wait for this very worker."""
        for key, (task, future, address) in list(self.flying.items()):
            if key not in self.adrift and (address in there or future.done()):
                continue
            self.adrift.discard(key)
            del self.flying[key]
            future.release()
            self.lost[task.folder] += 1
            if self.lost[task.folder] > self.allowed:
                self.listener(task, _killed(task, self.lost[task.folder], address))
            else:
                waiting.appendleft(task)

    def _threads(self) -> dict[str, int]:
        """{address: threads} of the workers; new ones have been asked whether they are fit."""
        try:
            there = threads(self.client)
            new = [address for address in there if address not in self.asked]
            answers = _ask(self.client, new, self.limits)
        except Exception as error:  # whatever the connection raises when it breaks
            raise _Lost from error
        self.asked |= answers
        for reason in filter(None, answers.values()):
            warnings.warn(f"a worker gets no runs. {reason}", UserWarning, stacklevel=3)
        return there

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
        task, future, _ = self.flying[key]
        if row is not None:
            self.listener(task, {"event": "row", "row": json.loads(row)})
        else:
            event = self._land(task, future)
            if event is None:
                self.adrift.add(key)
                return
            del self.flying[key]
            future.release()
            self.listener(task, event)

    def _land(self, task: Task, future: Any) -> dict[str, Any] | None:
        """The closing event of a run whose Dask task is over, with its files in its folder; None where its worker was
        lost before they were fetched. Dask would wait for this very worker."""
        if future.status == "error":
            return _give_up(task, future.exception())
        try:
            if future.status != "finished":
                raise TimeoutError
            answer: Answer = future.result(timeout=FETCH)
        except Exception as error:  # not of the run, for that has ended well
            if self.client.status == "running" and isinstance(error, (TimeoutError, CancelledError)):
                return None
            raise _Lost from error
        folder = Path(task.folder)
        for name, content in answer.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return settle(task, answer.ending)

    def _wind_down(self) -> None:
        """Interrupt the runs, wait until their results are here, and end those that cannot be interrupted."""
        for key, (_, future, _) in self.flying.items():
            if future.done():  # the interruption may have come between its event and its landing
                self.events.put((key, None))
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
        for _, future, _ in self.flying.values():
            future.release()
