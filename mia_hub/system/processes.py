"""The processes that share scoring out among them: those of one ``accelerate launch``, or this one alone.

All of them run the same program on the same images. What costs queries is shared out and gathered, what is decided is decided by the
first process, and only the first writes and prints. `mia-hub` joins them by itself; a script does so within
`joined_processes`, so that a function that is called in one process of a training, say, never waits for the others.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

from mia_hub.errors import MiaHubError, first_line

Result = TypeVar("Result")
# Those that are done wait for the others, who may have all images left to survey.
LONGEST_WAIT = timedelta(days=7)


class Processes:
    """This process alone.

    Attributes:
        index: of this process, from 0.
        count: of all of them.
        local_index: of this process among those on the same machine.
    """

    index, count, local_index = 0, 1, 0

    @property
    def is_first(self) -> bool:
        return self.index == 0

    def share(self, n: int) -> range:
        """Which of n parts are this process's: a run of neighbours, as long as the others' to within one."""
        return range(n * self.index // self.count, n * (self.index + 1) // self.count)

    def together(self, work: Callable[[], Result]) -> list[Result]:
        """What some work gives in each process, in their order.

        Raises:
            Exception: what the work raised here; a MiaHubError, marked as from elsewhere, where it failed in another process.
        """
        return [work()]

    def trouble(self) -> bool:
        """Whether the work that is being done `together` has failed in another process, so that the rest of it is in vain."""
        return False

    def first(self, work: Callable[[], Result]) -> Result:
        """What some work gives in the first process, done there alone.

        Raises:
            Exception: as `together`.
        """
        return work()


class LaunchedProcesses(Processes):
    """Those of one launch. Only objects in memory are exchanged, so they talk by gloo whatever they compute on."""

    def __init__(self) -> None:
        import torch
        import torch.distributed
        from accelerate import PartialState

        # Without an accelerator it would otherwise take this process for the only one.
        state = PartialState(cpu=not torch.accelerator.is_available(), timeout=LONGEST_WAIT)
        self.index, self.count, self.local_index = state.process_index, state.num_processes, state.local_process_index
        self._distributed = torch.distributed
        self._group = torch.distributed.new_group(backend="gloo", timeout=LONGEST_WAIT)
        # What the processes found one another by; a store of our own would need another port.
        self._store, self._works = torch.distributed.distributed_c10d._get_default_store(), 0

    def together(self, work: Callable[[], Result]) -> list[Result]:
        self._works += 1  # the same in all processes
        outcome, failed = _outcome(work)
        if failed is not None:
            with suppress(RuntimeError):  # the others hear of it when they are done
                self._store.set(self._trouble, "")
        found: list[Any] = [None] * self.count
        self._distributed.all_gather_object(found, outcome, group=self._group)
        return [self._result(other, index, failed) for index, other in enumerate(found)]

    @property
    def _trouble(self) -> str:
        return f"mia_hub, trouble in work {self._works}"

    def trouble(self) -> bool:
        return self._store.check([self._trouble])

    def first(self, work: Callable[[], Result]) -> Result:
        outcome, failed = _outcome(work) if self.is_first else (None, None)
        found = [outcome]
        self._distributed.broadcast_object_list(found, src=0, group=self._group)
        return self._result(found[0], 0, failed)

    def _result(self, outcome: tuple[Any, Exception | None], index: int, failed: Exception | None) -> Any:
        if failed is not None:
            raise failed
        result, error = outcome
        if error is None:
            return result
        if not isinstance(error, MiaHubError):
            error = MiaHubError(f"Process {index + 1} of {self.count} failed: {first_line(error)}")
        error.elsewhere = True
        raise error


def _outcome(work: Callable[[], Any]) -> tuple[tuple[Any, Exception | None], Exception | None]:
    """What is told to the others, and what was raised."""
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
    """The processes that this one has joined, or itself."""
    return _current


@contextmanager
def joined_processes() -> Iterator[Processes]:
    """Within it scoring is shared out among the processes of one ``accelerate launch``; all of them must come here.

    Started otherwise, it changes nothing.
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
    """Whether this process was started with others, as ``accelerate launch`` does."""
    return os.environ.get("WORLD_SIZE", "1") != "1"


def launched_first() -> bool:
    """Whether it is the first of those that it was started with, joined or not."""
    return not launched() or os.environ.get("RANK", "0") == "0"


def launched_as() -> str:
    """What an error message of this process begins with, so that it is known which one failed; "" for the first, or one alone."""
    return "" if launched_first() else f"Process {int(os.environ['RANK']) + 1} of {os.environ['WORLD_SIZE']}: "
