"""Processes that each perform one search at a time, and end with the one that started them."""

import io
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from queue import SimpleQueue

from pipeline.common.addresses import masked
from pipeline.common.errors import RunError, UserError, first_line
from pipeline.config import Config

Performed = tuple[str, str, list[str]]
"""The pipeline's run and what went wrong, "" for what is not there; and what was warned of."""
Perform = Callable[[Config, str], Performed]
"""A configuration and the run around it, to what became of it."""

_searching = threading.Lock()


@contextmanager
def workers(store_uri: str, count: int) -> Iterator[Perform]:
    """So many processes, with one thread each; what is given may be called from as many threads. A
    process that dies is replaced, and only its search fails."""
    context = multiprocessing.get_context("spawn")
    free: SimpleQueue[ProcessPoolExecutor] = SimpleQueue()

    def start() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, context, initializer=_begin, initargs=(store_uri, count))

    def perform(config: Config, above: str) -> Performed:
        pool = free.get()
        try:
            return pool.submit(_search, config, above).result()
        except BrokenProcessPool:
            pool = start()
            return "", "its process died, perhaps for want of memory", []
        finally:
            free.put(pool)

    for _ in range(count):
        free.put(start())
    try:
        yield perform
    finally:
        for _ in range(count):
            free.get().shutdown(cancel_futures=True)


def stop() -> None:
    """Let every search that is running end in good order, to go on later."""
    for process in multiprocessing.active_children():
        process.terminate()


def _begin(store_uri: str, count: int) -> None:
    os.environ["MLFLOW_TRACKING_URI"] = store_uri
    import torch

    from pipeline.common import signals

    torch.set_num_threads(max(1, torch.get_num_threads() // count))
    signals.end_in_good_order()
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()


def _end_with_parent() -> None:
    """A parent that was killed cannot say so: then the search closes its runs, and nobody waits for
    another one."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        with _searching:
            os._exit(128 + signal.SIGTERM)


def _search(config: Config, above: str) -> Performed:
    from pipeline.commands.run import run_all

    os.environ["MLFLOW_RUN_ID"] = above
    said, run_id, problem = io.StringIO(), "", ""
    try:
        with _searching, redirect_stdout(io.StringIO()), redirect_stderr(said):
            run_id = run_all(config, "python -m pipeline sweep").run_id
    except (UserError, RunError) as error:
        problem = "; ".join(str(error).splitlines())
    except Exception as error:
        problem = masked(f"{type(error).__name__}: {first_line(error)}")
    lines = said.getvalue().splitlines()
    mark = "warning: "
    return run_id, problem, [line.removeprefix(mark) for line in lines if line.startswith(mark)]
