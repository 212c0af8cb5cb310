"""The machine description in records, without host name, paths or environment variables."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from functools import cache
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

from vaebench.records.schema import Environment

_PACKAGES = ("vaebench", "torch", "torchvision", "numpy", "pandas", "scikit-learn", "scipy")


@cache
def environment(device: str) -> Environment:
    """Return the environment of a cell that is trained on ``device``."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        versions[package] = importlib.metadata.version(package)
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else None
    return Environment(
        versions=versions,
        platform=f"{platform.system()} {platform.machine()}",
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        threads=torch.get_num_threads(),
        device_name=name,
        driver=_driver() if name else None,
        commit=_commit(),
    )


def settle(threads: int) -> None:
    """Set the number of threads of this process, and treat denormal numbers as zero."""
    torch.set_num_threads(threads)
    # t-SNE and nearest neighbours use other thread pools, which torch's setting does not reach.
    threadpool_limits(threads)
    torch.set_flush_denormal(True)


def available_devices() -> list[str]:
    """Return one device of each kind on this machine, ``cpu`` first."""
    devices = ["cpu"]
    if torch.cuda.is_available():
        devices.append("cuda")
    if torch.backends.mps.is_available():
        devices.append("mps")
    return devices


def description() -> list[str]:
    """Return lines that describe the machine, the software versions and the devices."""
    here = environment("cpu")
    lines = [f"{name}: {version}" for name, version in here.versions.items()]
    lines += [
        f"platform: {here.platform}",
        f"processor: {here.processor}, {here.cores} cores",
        f"commit: {here.commit or 'not a checkout'}",
    ]
    for device in ("cpu", "cuda", "mps"):
        why = absent_device(device)
        lines.append(f"device {device}: " + ("available" if why is None else f"absent, {why}"))
    return lines


def absent_device(device: str) -> str | None:
    """Return why a device cannot be used on this machine, or None if it can."""
    if device == "cpu":
        return None
    if device == "mps":
        return None if torch.backends.mps.is_available() else "this machine has no MPS device"
    if not torch.cuda.is_available():
        built = torch.version.cuda
        return (
            f"this torch is built for CUDA {built}, but sees no CUDA device"
            if built
            else f"torch {torch.__version__} is a build without CUDA"
        )
    index = int(device.partition(":")[2] or 0)
    count = torch.cuda.device_count()
    return (
        None
        if index < count
        else f"there is no CUDA device {index}: this machine has {count}, numbered from 0"
    )


def _processor() -> str | None:
    """Return the name and model number of the processor, since names may not be unique."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or None
    told: dict[str, str] = {}
    for line in lines:
        field, _, value = line.partition(":")
        told.setdefault(field.strip(), value.strip())
    if "model name" not in told:
        return platform.processor() or None
    if {"cpu family", "model"} <= told.keys():
        return f"{told['model name']} (family {told['cpu family']}, model {told['model']})"
    return told["model name"]


def _driver() -> str | None:
    return _answer("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")


def _commit() -> str | None:
    """Return the commit of vaebench if it runs from a git checkout."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    return _answer("git", "-C", str(here), "rev-parse", "--short=12", "HEAD")


def _answer(*command: str) -> str | None:
    """Return the first line that a command prints; None if it is missing, fails or hangs."""
    try:
        done = subprocess.run(  # noqa: S603 -- fixed commands, no shell
            command, capture_output=True, text=True, errors="replace", timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else None
