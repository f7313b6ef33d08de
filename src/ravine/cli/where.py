"""Where the runs of a comparison are made: in processes on this machine, or on the workers of a Dask cluster."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from ..bench.limits import Limits
from ..bench.task import Task
from ..driver.cores import cores
from .parse import Usage


class Place(NamedTuple):
    """`run_all(tasks, listener)` as `bench.pool.run_all`; `words` say how many runs there are at a time."""

    run_all: Callable[[Sequence[Task], Any], bool]
    words: str


def _words(workers: int) -> str:
    own = len(cores())
    few = f" on {own} core{'' if own == 1 else 's'}, so that runs share one and their seconds say little"
    return f"{workers} at a time{few if workers > own else ''}"


@contextmanager
def place(request: argparse.Namespace) -> Generator[Place]:
    """The place that the options name. Raises Usage, also where no scheduler answers; nothing is written before."""
    limits = Limits(request.memory, request.wall)
    if request.scheduler is None:
        from ..bench import pool

        if (reason := limits.refusal()) is not None:
            raise Usage(reason)
        workers = request.workers or 1
        yield Place(lambda tasks, listener: pool.run_all(tasks, workers, listener, limits), _words(workers))
        return
    if request.workers is not None:
        raise Usage("--workers: is for runs on this machine; with --scheduler the cluster's own workers make them.")
    from ..bench import cluster

    try:
        with cluster.connected(request.scheduler) as client:
            if (reason := cluster.refusal(client, limits)) is not None:
                raise Usage(f"--scheduler {request.scheduler}: no worker there can make the runs. {reason}")
            found = sum(cluster.threads(client).values())
            words = f"{found} at a time on {request.scheduler}" if found else f"once {request.scheduler} has a worker"
            yield Place(lambda tasks, listener: cluster.run_all(tasks, client, listener, limits), words)
    except cluster.NoCluster as error:
        raise Usage(str(error)) from None
