"""Counts over several worker processes: each writes its own files, and a scrape adds them up.

prometheus_client does this in the folder PROMETHEUS_MULTIPROC_DIR, with files named after process
ids: every restart of a worker leaves some behind, and each scrape reads all of them. Here they are
named after slots. A worker takes the lowest free slot and counts on from the numbers in its files,
so there are no more files than there were workers at one time. A slot is a byte of a lock file,
which the kernel frees when the process ends, however it ends.

Import this before anything that makes metrics.
"""

import functools
import inspect
import itertools
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from prometheus_client import values
from prometheus_client.multiprocess import MultiProcessCollector

from ..settings import SettingsError

if sys.platform != "win32":
    import fcntl


class Slots:
    """The slots of a folder, of which each process takes one when it begins to count."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        #: Returns the slot of this process, which it takes when it is first asked.
        self.own = functools.cache(self._take_lowest)
        self.lock: Any = None  # prometheus_client's, held while it counts
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Never closed: the lock on the slot ends with the process.
            self._file = os.open(folder / "slots.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise SettingsError(
                f"PROMETHEUS_MULTIPROC_DIR cannot be used: {error}. What works: a folder that this "
                "user may make and write, such as /tmp/metrics"
            ) from error

    def _take_lowest(self) -> int:
        return next(n for n in itertools.count() if self._writable(n) and self._take(n))

    def _writable(self, slot: int) -> bool:
        """Tell whether we may write the slot's files: another user's command may have left some."""
        return all(os.access(path, os.W_OK) for path in self.folder.glob(f"*_{slot}.db"))

    def _take(self, slot: int) -> bool:
        """Lock `slot` if it is free, and drop the live gauges of the worker that had it."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot)
        except BlockingIOError:
            return False
        for gauges in self.folder.glob(f"gauge_live*_{slot}.db"):
            gauges.unlink(missing_ok=True)
        return True

    def collect(self) -> Any:
        """Add up the files of all workers, without the live gauges of those that have ended."""
        with self.lock:
            for path in self.folder.glob("gauge_live*_*.db"):
                slot = int(path.stem.rpartition("_")[2])
                if slot != self.own() and self._take(slot):
                    fcntl.lockf(self._file, fcntl.LOCK_UN, 1, slot)
        files = []
        for path in self.folder.glob("*.db"):
            with suppress(FileNotFoundError):  # another scrape may drop live gauges meanwhile
                if path.stat().st_size:  # a file that is being made is empty at first
                    files.append(str(path))
        return MultiProcessCollector.merge(files)


#: None if each process counts for itself, as always on Windows.
slots: Slots | None = None
values.ValueClass = values.MutexValue  # also if the variable is set, but empty
if sys.platform != "win32" and os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
    slots = Slots(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).absolute())
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(slots.folder)  # read again for each new file
    values.ValueClass = values.MultiProcessValue(slots.own)
    lock = slots.lock = inspect.getclosurevars(values.ValueClass.inc).nonlocals["lock"]
    # A child needs a slot of its own, and has no other thread that could release the lock.
    os.register_at_fork(before=lock.acquire, after_in_parent=lock.release)
    os.register_at_fork(after_in_child=lock.release)
    os.register_at_fork(after_in_child=slots.own.cache_clear)
