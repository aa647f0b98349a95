"""The machine and this process: processors, memory, disks, and GPUs where NVIDIA's library is. Needs psutil; nothing else is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psutil


class Gpu(NamedTuple):
    """A GPU: its number, the share of time in which it worked, and its memory in bytes."""

    number: int
    busy: float
    memory_used: int
    memory_total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemReading:
    """The machine at one moment.

    Attributes
    ----------
    cpu_s
        Seconds of all processors since the machine started, by what they did: user, system, idle, iowait, other.
    processors
        How many there are.
    memory, disk
        Bytes of the machine, and of the disk that holds the project: total, and used or free.
    disk_read_bytes, disk_written_bytes
        Of all disks since the machine started; None where the system does not say.
    process_cpu_s, process_memory_bytes, process_threads
        Of this process.
    process_read_bytes, process_written_bytes
        Of this process, to and from disks; None where the system does not say.
    """

    cpu_s: dict[str, float]
    processors: int
    memory_total: int
    memory_available: int
    disk_total: int
    disk_free: int
    disk_read_bytes: int | None
    disk_written_bytes: int | None
    process_cpu_s: float
    process_memory_bytes: int
    process_threads: int
    process_read_bytes: int | None
    process_written_bytes: int | None
    gpus: tuple[Gpu, ...] = ()


class SystemReader:
    """Reads the machine and this process; a reading takes less than a millisecond.

    Parameters
    ----------
    folder
        On the disk that is watched.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process = psutil.Process()
        self._nvml = _nvml()

    def read(self) -> SystemReading:
        """The machine now."""
        times = psutil.cpu_times()
        known = {name: float(getattr(times, name, 0.0)) for name in ("user", "system", "idle", "iowait")}
        memory, disk = psutil.virtual_memory(), psutil.disk_usage(str(self._folder))
        disks = psutil.disk_io_counters()
        with self._process.oneshot():
            own = self._process.cpu_times()
            resident = self._process.memory_info().rss
            threads = self._process.num_threads()
        read, written = self._io()
        return SystemReading(
            cpu_s=known | {"other": max(sum(times) - sum(known.values()), 0.0)},
            processors=psutil.cpu_count() or 1,
            memory_total=memory.total,
            memory_available=memory.available,
            disk_total=disk.total,
            disk_free=disk.free,
            disk_read_bytes=None if disks is None else disks.read_bytes,
            disk_written_bytes=None if disks is None else disks.write_bytes,
            process_cpu_s=own.user + own.system,
            process_memory_bytes=resident,
            process_threads=threads,
            process_read_bytes=read,
            process_written_bytes=written,
            gpus=self._gpus(),
        )

    def _io(self) -> tuple[int | None, int | None]:
        try:
            io = self._process.io_counters()
        except (AttributeError, psutil.Error):  # not on every system, and not in every container
            return None, None
        return io.read_bytes, io.write_bytes

    def _gpus(self) -> tuple[Gpu, ...]:
        if self._nvml is None:
            return ()
        nvml, found = self._nvml, []
        try:
            for number in range(nvml.nvmlDeviceGetCount()):
                handle = nvml.nvmlDeviceGetHandleByIndex(number)
                memory = nvml.nvmlDeviceGetMemoryInfo(handle)
                busy = nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
                found.append(Gpu(number, busy, memory.used, memory.total))
        except nvml.NVMLError:  # the driver went away
            return ()
        return tuple(found)


def _nvml() -> Any:
    """NVIDIA's library, ready; None where there is none."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml
