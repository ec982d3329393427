"""The processes that share an audit: those of one ``accelerate launch``, or this one alone.

All of them run the same program on the same images. Queries are divided among them and their results gathered, decisions are made by the
first process, and only the first process writes and prints. `mia-hub` joins the processes by itself; a script does so within
`joined_processes`, so that a function called in one process of a training run never waits for the others.
"""

from __future__ import annotations

import os
import pickle
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from mia_hub.errors import MiaHubError, first_line

Result = TypeVar("Result")
# A process that is done waits for the others, which may still have to read all images.
LONGEST_WAIT = timedelta(days=7)
# The connections of a process that is killed close a moment before the system shows its end.
SECONDS_TO_END = 2.0


class Processes:
    """This process alone.

    Attributes:
        index: of this process, from 0.
        count: of all processes.
        local_index: of this process among those on the same machine.
    """

    index, count, local_index = 0, 1, 0

    @property
    def is_first(self) -> bool:
        return self.index == 0

    def share(self, n: int) -> range:
        """Return which of n parts belong to this process: consecutive ones, as many as the others' to within one."""
        return range(n * self.index // self.count, n * (self.index + 1) // self.count)

    def together(self, work: Callable[[], Result]) -> list[Result]:
        """Do some work in each process; return the results in the order of the processes.

        Raises:
            Exception: what the work raised here; a MiaHubError, marked as from elsewhere, if it failed in another process; a MiaHubError
                that names the process, if another one was killed.
        """
        return [work()]

    def trouble(self) -> bool:
        """Whether the present work `together` has failed in another process, so that the rest of it is in vain."""
        return False

    def first(self, work: Callable[[], Result]) -> Result:
        """Do some work in the first process only; return its result in each process.

        Raises:
            Exception: as `together`.
        """
        return work()


class LaunchedProcesses(Processes):
    """The processes of one launch. They exchange only objects in memory, by gloo, whatever device they compute on."""

    def __init__(self) -> None:
        import torch
        import torch.distributed
        from accelerate import PartialState

        # Without an accelerator it would otherwise take this process for the only one.
        state = PartialState(cpu=not torch.accelerator.is_available(), timeout=LONGEST_WAIT)
        self.index, self.count, self.local_index = state.process_index, state.num_processes, state.local_process_index
        self._distributed = torch.distributed
        self._group = torch.distributed.new_group(backend="gloo", timeout=LONGEST_WAIT)
        # The store by which the processes met; one of our own would need another port.
        self._store, self._works = torch.distributed.distributed_c10d._get_default_store(), 0
        self._places: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(self._places, (socket.gethostname(), os.getpid()), group=self._group)

    def together(self, work: Callable[[], Result]) -> list[Result]:
        self._works += 1  # the same number in all processes
        outcome, error = _outcome(work)
        if error is not None:
            with suppress(RuntimeError):  # the others learn of it when they are done
                self._store.set(self._trouble, "")
        outcomes: list[Any] = [None] * self.count
        self._exchange(lambda: self._distributed.all_gather_object(outcomes, outcome, group=self._group), error)
        return [self._result(other, index, error) for index, other in enumerate(outcomes)]

    @property
    def _trouble(self) -> str:
        return f"mia_hub, trouble in work {self._works}"

    def trouble(self) -> bool:
        with suppress(RuntimeError):
            return bool(self._store.check([self._trouble]))
        return True  # the process that holds the store has ended

    def first(self, work: Callable[[], Result]) -> Result:
        outcome, error = _outcome(work) if self.is_first else (None, None)
        outcomes: list[Any] = [outcome]
        self._exchange(lambda: self._distributed.broadcast_object_list(outcomes, src=0, group=self._group), error)
        result: Result = self._result(outcomes[0], 0, error)
        return result

    def _exchange(self, send: Callable[[], None], own_error: Exception | None) -> None:
        """Send something to the other processes.

        Raises:
            Exception: the error of this process's own work, or a MiaHubError that names the lost processes, if another one has ended.
        """
        try:
            send()
        except RuntimeError as error:
            raise own_error or self._lost(error) from error

    def _lost(self, error: RuntimeError) -> MiaHubError:
        """Return the error for a process that ended in the middle of the work; ``error``: of the exchange with it."""
        deadline = time.monotonic() + SECONDS_TO_END
        own_host = self._places[self.index][0]
        while True:
            ended = [str(i + 1) for i, (host, pid) in enumerate(self._places) if host == own_host and _has_ended(pid)]
            if ended or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        named = f"Process{'es' * (len(ended) > 1)} {' and '.join(ended)}" if ended else "Another one"
        return MiaHubError(
            f"{named} of the {self.count} processes ended in the middle of the work: killed, interrupted, out of memory, or since another "
            f"one had ended ({first_line(error)}). Next step: run the same command again, with any number of processes; with --out, "
            "finished work is not done again."
        )

    def _result(self, outcome: tuple[Any, Exception | None], index: int, own_error: Exception | None) -> Any:
        if own_error is not None:
            raise own_error
        result, error = outcome
        if error is None:
            return result
        if not isinstance(error, MiaHubError):
            error = MiaHubError(f"Process {index + 1} of {self.count} failed: {first_line(error)}")
        error.elsewhere = True
        raise error


def _has_ended(pid: int) -> bool:
    """Whether a process of this machine has ended, though its parent may not know yet; False where there is no /proc."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return Path("/proc/self/stat").exists()
    return state in "ZX"


def _outcome(work: Callable[[], Any]) -> tuple[tuple[Any, Exception | None], Exception | None]:
    """Return the outcome that is sent to the others, result and error, and the error that was raised here."""
    try:
        return (work(), None), None
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
            return (None, error), error
        except Exception:
            return (None, MiaHubError(first_line(error))), error


_current = Processes()


def current_processes() -> Processes:
    """Return the processes that this one has joined, or itself alone."""
    return _current


@contextmanager
def joined_processes() -> Iterator[Processes]:
    """Divide audits among the processes of one ``accelerate launch`` inside the ``with`` block, which all of them must enter.

    In a process that was started otherwise, it changes nothing.
    """
    global _current
    if not launched() or _current.count > 1:
        yield _current
        return
    alone, _current = _current, LaunchedProcesses()
    try:
        yield _current
    finally:
        _current = alone


def launched() -> bool:
    """Whether this process was started with others, as by ``accelerate launch``."""
    return os.environ.get("WORLD_SIZE", "1") != "1"


def launched_first() -> bool:
    """Whether this process is the first of its launch, joined or not."""
    return not launched() or os.environ.get("RANK", "0") == "0"


def launched_as() -> str:
    """Return the beginning of this process's error messages, which names the process; "" for the first, or one alone."""
    return "" if launched_first() else f"Process {int(os.environ['RANK']) + 1} of {os.environ['WORLD_SIZE']}: "
