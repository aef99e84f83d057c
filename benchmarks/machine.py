"""On what was measured, and with which versions."""

import importlib.metadata
import os
import platform
import re
from pathlib import Path

PACKAGES = (
    *("tensorflow", "keras", "torch", "monai", "pydicom", "python-gdcm", "numpy", "pillow"),
    *("pyjpegls", "pylibjpeg-rle", "tf-dicom-ce"),
)
_EXTENSIONS = ("avx2", "avx512f", "avx512_bf16", "amx_tile")


def machine() -> dict[str, str]:
    """Processor, memory, system and Python."""
    cpu, memory = Path("/proc/cpuinfo").read_text(), Path("/proc/meminfo").read_text()
    flags = re.search(r"^flags\s*: (.*)$", cpu, re.MULTILINE)
    known = [name for name in _EXTENSIONS if flags and name in flags[1].split()]
    model = re.search(r"^model name\s*: (.*)$", cpu, re.MULTILINE)
    kibibytes = int(re.search(r"^MemTotal:\s*(\d+)", memory)[1])
    return {
        "processor": f"{model[1] if model else platform.machine()} ({', '.join(known)})",
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{kibibytes / 1024**2:.1f} GiB",
        "system": f"{platform.freedesktop_os_release()['PRETTY_NAME']}, {platform.machine()}",
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Of what is compared."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}
