"""Several worker processes: each counts in files of its own, and a scrape adds the files up.

prometheus_client does that in the folder PROMETHEUS_MULTIPROC_DIR, with files named after process
ids: every restart of a worker leaves some behind, and each scrape reads all of them. Here they are
named after slots. A worker takes the lowest that is free and counts on from where its predecessor
stopped, so there are no more files than there were workers at once. A slot is a byte of a lock
file, which the kernel frees when its process ends, however it ends.

Import this before anything that makes metrics.
"""

import itertools
import mmap
import os
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Metric, values
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector

from ..settings import SettingsError

#: The folder, None if each process counts for itself.
FOLDER: Path | None = None
if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
    FOLDER = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).absolute()

#: The numbers of a file, as they lie in memory.
Numbers = Any
_NOWHERE: Numbers = memoryview(b"").cast("d")
_lock = threading.RLock()
_process: "_Process | None" = None
_values: list["Value"] = []


class Value:
    """A number in a file of this process, which is what all metrics consist of.

    It does what the MmapedValue of prometheus_client does, in the same files, but counts several
    times as fast: every hit pays for that.
    """

    _multiprocess = True
    _numbers, _at = _NOWHERE, 0

    def __init__(
        self,
        typ: str,
        metric_name: str,
        name: str,
        labelnames: Any,
        labelvalues: Any,
        help_text: str,
        multiprocess_mode: str = "",
        **_: Any,
    ) -> None:
        kind = f"gauge_{multiprocess_mode}" if typ == "gauge" else typ
        self._place = kind, mmap_key(metric_name, name, labelnames, labelvalues, help_text)
        _values.append(self)
        self.inc(0)

    def inc(self, amount: float) -> None:
        """Add `amount`."""
        with _lock:
            try:
                self._numbers[self._at] += amount
            except IndexError:  # nowhere yet, or no more since we were forked
                self._numbers, self._at = _this_process().find(*self._place)
                self._numbers[self._at] += amount

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Replace the number, and the time that stands behind it."""
        with _lock:
            self.inc(0)
            self._numbers[self._at] = value
            self._numbers[self._at + 1] = timestamp or 0.0

    def get(self) -> float:
        """Return the number."""
        with _lock:
            self.inc(0)
            number: float = self._numbers[self._at]
            return number

    def set_exemplar(self, exemplar: object) -> None:
        """Do nothing: the files have no room for exemplars."""

    def get_exemplar(self) -> None:
        """Return None."""


class _Process:
    """What a process has open: the lock on its slot, and its files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Closed by nobody: the lock lasts as long as the process.
            self.slots = os.open(folder / "slots.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise SettingsError(
                f"PROMETHEUS_MULTIPROC_DIR cannot be used: {error}. What works: a folder that this "
                "user may make and write, such as /tmp/metrics"
            ) from error
        slots = (slot for slot in itertools.count() if self.is_writable(slot) and self.take(slot))
        self.slot = next(slots)
        self._files: dict[str, tuple[MmapedDict, Numbers]] = {}

    def is_writable(self, slot: int) -> bool:
        """Tell whether we may write its files: another user's command may have left some."""
        return all(os.access(path, os.W_OK) for path in self._folder.glob(f"*_{slot}.db"))

    def take(self, slot: int) -> bool:
        """Take `slot` if it is free; the live gauges of who had it before go."""
        try:
            fcntl.lockf(self.slots, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot)
        except BlockingIOError:
            return False
        for gauges in self._folder.glob(f"gauge_live*_{slot}.db"):
            gauges.unlink(missing_ok=True)
        return True

    def drop_gauges_of_the_dead(self) -> None:
        """Drop the live gauges of the processes that have ended."""
        for path in self._folder.glob("gauge_live*_*.db"):
            slot = int(path.stem.rpartition("_")[2])
            if slot != self.slot and self.take(slot):
                fcntl.lockf(self.slots, fcntl.LOCK_UN, 1, slot)

    def find(self, kind: str, key: str) -> tuple[Numbers, int]:
        """Return the numbers in our file of a kind of metrics, and the index of the one of `key`.

        It is 0 if it is new.
        """
        path = self._folder / f"{kind}_{self.slot}.db"
        if not path.exists():
            new = path.with_suffix(".new")  # a scrape cannot read a file without a length
            new.touch()
            os.truncate(new, 1 << 16)
            new.rename(path)
        keys, numbers = self._files.get(kind) or (MmapedDict(str(path)), _NOWHERE)
        keys.read_value(key)  # adds it
        stored = MmapedDict.read_all_values_from_file(str(path))
        at: int = next(at for name, _, _, at in stored if name == key) // 8
        if at >= len(numbers):  # the file has grown
            with path.open("r+b") as file:
                numbers = memoryview(mmap.mmap(file.fileno(), 0)).cast("d")
        self._files[kind] = keys, numbers
        return numbers, at


def _this_process() -> _Process:
    global _process
    if _process is None:
        assert FOLDER
        _process = _Process(FOLDER)
    return _process


def _after_fork() -> None:
    global _lock, _process
    _lock = threading.RLock()
    if _process is not None:
        os.close(_process.slots)  # the parent keeps its lock: locks are not inherited
        _process = None
    for value in _values:
        value._numbers = _NOWHERE


class _Workers:
    def collect(self) -> Iterable[Metric]:
        """Add the files up, by their names: prometheus_client takes the folder's for a pattern."""
        files = [str(path) for path in FOLDER.glob("*.db")] if FOLDER else []
        found: Iterable[Metric] = MultiProcessCollector.merge(files)
        return found


if sys.platform != "win32":  # where no server has several processes
    import fcntl

    os.register_at_fork(after_in_child=_after_fork)
    values.ValueClass = Value if FOLDER else values.MutexValue


def register(registry: CollectorRegistry) -> bool:
    """Add what all workers counted to `registry`; False if this process counts for itself."""
    if not FOLDER:
        return False
    if sys.platform != "win32":
        with _lock:
            _this_process().drop_gauges_of_the_dead()
    registry.register(_Workers())
    return True
