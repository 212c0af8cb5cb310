"""Timed training steps: the tidy frame, comparisons, and the sizes from which a GPU is faster.

A timing is compared with that of the CPU for the same store, machine (processor, cores, threads,
version of torch) and design, never with another machine. The noise of a timing is the larger of its
spread and its share of waiting for a core. Above 10 % the number is marked, above 25 % it is
omitted.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pandas as pd

from vaebench.analysis.frame import machine_name, require_folder, warn_of_unused
from vaebench.analysis.labels import is_missing, order_key, plain, shown, value_text
from vaebench.analysis.summary import number
from vaebench.records.schema import FactRecord
from vaebench.records.store import Damage, Store
from vaebench.records.timing import NOISY, TOO_NOISY, Timing, quartiles
from vaebench.system.terminal import escaped

SIZES: Final = {"batch_size": "batch size", "latent_dim": "latent dimension", "width": "width"}
"""Maps each swept size to its name."""

KINDS: Final = ("precision", "pack_size", "step_kind")
_DESIGN: Final = (*SIZES, "precision", "pack_size")
_NUMBERS: Final = (
    *("compile_seconds", "step_ms", "step_ms_low", "step_ms_high", "spread", "waited"),
    *("samples_per_second", "peak_memory_mib"),
)
_COLUMNS: Final = (
    *("record_id", "store", "machine", "device", "device_name", "driver"),
    *("state", "reason", "note", "latent_dim", "batch_size", "width", *KINDS, "likelihood"),
    *("threads", "compile_seconds", "steps", "warm_up_steps"),
    *("step_ms", "step_ms_low", "step_ms_high", "spread", "waited", "verdict"),
    *("samples_per_second", "peak_memory_mib", "peak_memory_reason"),
    *("ratio", "ratio_low", "ratio_high", "ratio_noisy"),
)


@dataclass(frozen=True)
class Timings:
    """The timings in results folders as a frame, and the records that cannot be used."""

    frame: pd.DataFrame
    damaged: tuple[Damage, ...] = ()


@dataclass(frozen=True)
class Bench:
    """The timings of one machine in one store, which may be compared with each other."""

    label: str
    frame: pd.DataFrame


@dataclass(frozen=True)
class Line:
    """Timings of one device over one size with the other sizes fixed, in order of the size."""

    device: str
    axis: str
    fixed: str
    rows: pd.DataFrame


def load_timings(path: Path | str) -> pd.DataFrame:
    """Load the timings of one results folder, one row per record.

    Columns: `step_ms` is the median over blocks of steps in ms, `step_ms_low` and `step_ms_high`
    are their quartiles, `spread` is the interquartile range divided by the median, and `waited` is
    the share of the time in which steps waited for a core. `verdict` is `steady`, `noisy`, `too
    noisy`, or the state of a timing without a number. `ratio` is the speed relative to the CPU of
    the same machine and design, NaN if there is no such timing; `ratio_low` and `ratio_high` are
    computed from the quartiles, and `ratio_noisy` is whether either timing is noisy. The times of a
    timing that is too noisy are NaN.

    A warning names records that cannot be used, as in `load_results`.

    Raises:
        FileNotFoundError: there is no such folder.
        StorageError: the folder cannot be read.
    """
    require_folder(Path(path))
    found = read_timings([Path(path)])
    warn_of_unused(path, found.damaged)
    return found.frame


def read_timings(paths: Sequence[Path]) -> Timings:
    """Read the timings in results folders; damaged records without a cell are listed, not used.

    Raises:
        StorageError: a folder cannot be listed.
    """
    damaged: list[Damage] = []
    records: list[tuple[FactRecord, str]] = []
    for path in paths:
        facts, lost = Store(path).read_facts()
        damaged += lost
        records += [(fact, escaped(path.name)) for fact in facts if fact.kind == "timing"]
    found = timing_frame(records)
    return replace(found, damaged=(*damaged, *found.damaged))


def timing_frame(records: Iterable[tuple[FactRecord, str]]) -> Timings:
    """Make the frame of timings, in a fixed order.

    Args:
        records: pairs of a record and the name of its store.
    """
    rows, damaged = [], []
    for fact, store in records:
        try:
            timing = Timing.of(fact)
        except ValueError as error:
            path = Path(store, "facts", fact.record_id, "record.json")
            damaged.append(Damage(path, fact.record_id, "damaged", str(error)))
            continue
        rows.append(_row(timing, fact, store))
    frame = pd.DataFrame(rows).reindex(columns=list(_COLUMNS))
    if frame.empty:
        return Timings(frame, tuple(damaged))
    # Records of an unavailable device are dropped if the device was timed later.
    where = frame.set_index(["store", "machine", "device", *_DESIGN]).index
    absent = (frame["state"] == "unavailable").to_numpy()
    frame = frame[~(absent & where.isin(where[~absent]))]
    # Numeric columns have a numeric type even if every timing failed.
    frame = frame.astype(dict.fromkeys(_NUMBERS, "float64"))
    by = ["store", "machine", "precision", "pack_size", "latent_dim", "batch_size", "width"]
    by += ["device", "device_name", "step_kind", "record_id"]
    keys = [tuple(map(order_key, row)) for row in frame[by].itertuples(index=False, name=None)]
    places = sorted(range(len(frame)), key=keys.__getitem__)
    frame = frame.iloc[places].reset_index(drop=True)
    return Timings(_with_ratios(frame), tuple(damaged))


def _row(timing: Timing, fact: FactRecord, store: str) -> dict[str, object]:
    environment, hidden = fact.environment, timing.hidden
    width = hidden[0] if len(hidden) == 1 else "-".join(map(str, hidden))
    row = timing.model_dump(include=set(_COLUMNS)) | {
        "record_id": fact.record_id,
        "store": store,
        "machine": machine_name(environment, one_cell=False),
        "device_name": environment.device_name,
        "driver": environment.driver,
        "width": width,
        "verdict": timing.state,
    }
    if timing.noise is None:
        return row
    if timing.noise > TOO_NOISY:
        return row | {"verdict": "too noisy", "samples_per_second": None}
    low, _, high = quartiles(timing.block_ms)
    return row | {
        "verdict": "noisy" if timing.noise > NOISY else "steady",
        "step_ms": timing.step_ms_median,
        "step_ms_low": low,
        "step_ms_high": high,
    }


def _with_ratios(frame: pd.DataFrame) -> pd.DataFrame:
    """Add the speed of each other device relative to the CPU, also from the quartiles.

    For the CPU the step of a long training is used, if it was timed.
    """
    key = ["store", "machine", *_DESIGN]
    times = ["step_ms", "step_ms_low", "step_ms_high", "verdict"]
    cpu = frame[frame["device"] == "cpu"]
    cpu = cpu.sort_values("step_kind", key=lambda kinds: kinds == "eager", kind="stable")
    cpu = cpu.drop_duplicates(key)[[*key, *times]]
    both = frame[[*key, *times]].merge(cpu, "left", on=key, suffixes=("", "_cpu"))
    other = frame["device"] != "cpu"
    noisy = (both[["verdict", "verdict_cpu"]] == "noisy").any(axis=1)
    return frame.assign(
        ratio=(both["step_ms_cpu"] / both["step_ms"]).where(other),
        ratio_low=(both["step_ms_low_cpu"] / both["step_ms_high"]).where(other),
        ratio_high=(both["step_ms_high_cpu"] / both["step_ms_low"]).where(other),
        ratio_noisy=noisy & other,
    )


def benches(frame: pd.DataFrame) -> tuple[Bench, ...]:
    """Split the frame by machine and store, in a fixed order; benches are never compared."""
    if frame.empty:
        return ()
    several = frame["store"].nunique() > 1
    made = []
    for (store, machine), rows in frame.groupby(["store", "machine"]):
        label = f"{machine} ({store})" if several else str(machine)
        made.append(Bench(plain(label, 120), rows))
    return tuple(made)


def device_label(device: object, name: object) -> str:
    """Return a device with its name, if it has one: 'cuda (NVIDIA A100)'."""
    return plain(device if is_missing(name) else f"{device} ({name})")


def lines(frame: pd.DataFrame, axis: str) -> list[Line]:
    """Return a line for each device, precision and pack size with timings at two or more sizes.

    The other two sizes are fixed at the values for which the frame has most sizes of `axis`.
    """
    others = [size for size in SIZES if size != axis]
    kinds = varying_kinds(frame)
    widest = max(
        frame.groupby(others, sort=True), key=lambda part: part[1][axis].nunique(), default=None
    )
    if widest is None or widest[1][axis].nunique() < 2:
        return []
    values, rows = widest
    fixed = ", ".join(
        f"{SIZES[other]} {shown(value)}" for other, value in zip(others, values, strict=True)
    )
    made = []
    for key, part in rows.groupby(["device", "device_name", *KINDS], dropna=False, sort=False):
        words = [device_label(*key[:2])]
        for kind in kinds:
            text = value_text(part[kind].iloc[0])
            words.append(f"pack of {text}" if kind == "pack_size" else text)
        if part[axis].nunique() > 1:
            made.append(Line(", ".join(words), axis, fixed, part.sort_values(axis)))
    return made


def varying_kinds(frame: pd.DataFrame) -> list[str]:
    """Return those of `KINDS` that have several values for one device."""
    return [kind for kind in KINDS if frame.groupby("device")[kind].nunique().max() > 1]


def crossovers(frame: pd.DataFrame) -> list[str]:
    """Return sentences that say from which size on a GPU is faster than the CPU.

    A GPU counts as faster if the upper quartile of its step times is below the lower quartile of
    the CPU, and as slower in the opposite case. Nothing is extrapolated.
    """
    made = []
    for bench in benches(frame):
        told = [_crossover(line) for axis in SIZES for line in lines(bench.frame, axis)]
        found = [sentence for sentence in told if sentence]
        made += [f"On {bench.label}: {sentence}" for sentence in found or [_no_gpu(bench.frame)]]
    return made


def precisions(frame: pd.DataFrame) -> list[str]:
    """Return a sentence about the gain of bfloat16 for each device of each machine."""
    made = []
    for bench in benches(frame):
        timed = bench.frame[bench.frame["step_ms"].notna()]
        for device, rows in timed.groupby("device"):
            sizes = [*SIZES, "pack_size", "step_kind"]
            steps = rows.pivot_table("step_ms", sizes, "precision").reset_index()
            if {"float32", "bfloat16"} <= set(steps):
                gain = steps["float32"] / steps["bfloat16"]
                found = steps.assign(gain=gain).dropna(subset="gain").sort_values("gain")
                if len(found):
                    made.append(_gained(str(device), found))
    return made


def _gained(device: str, found: pd.DataFrame) -> str:
    ends = found.iloc[[0, -1]]
    ratios = [number(gain, gain / 10) for gain in ends["gain"]]
    places = [
        ", ".join(f"{name} {int(row[size]):,}" for size, name in SIZES.items())
        for _, row in ends.iterrows()
    ]
    told = f"On {device} a step in bfloat16 is {{}} times as fast as in float32"
    if len(found) == 1:
        return f"{told.format(ratios[0])} ({places[0]})."
    return (
        f"{told.format(' to '.join(ratios))}: least at {places[0]}, most at {places[1]} "
        f"({len(found)} sizes were timed in both)."
    )


def _no_gpu(frame: pd.DataFrame) -> str:
    others = frame[frame["device"] != "cpu"]
    unmeasured = others[others["state"] != "done"].itertuples()
    reasons = sorted({f"{row.device}: {plain(row.reason, 200)}" for row in unmeasured})
    if reasons:
        return f"no GPU was measured ({'; '.join(reasons[:3])})."
    if others.empty:
        return "no GPU was measured: only the CPU was timed."
    return "no GPU was timed at two sizes beside the CPU with a spread of 25 % or less."


def _crossover(line: Line) -> str | None:
    """Return the sentence about one line of a GPU; None if it has fewer than two ratios."""
    rows = line.rows[line.rows["ratio"].notna()]
    if len(rows) < 2:
        return None
    sizes = [int(size) for size in rows[line.axis]]
    faster = list(rows["ratio_low"] > 1)
    slower = list(rows["ratio_high"] < 1)
    name = SIZES[line.axis]
    ends = ", ".join(
        f"{number(ratio, ratio / 10)} times as fast at {size:,}"
        for ratio, size in zip(rows["ratio"].astype(float), sizes, strict=True)
        if size in (sizes[0], sizes[-1])
    )
    lost = [f"{size:,}" for size in line.rows[line.axis] if size not in sizes]
    told = f"({line.fixed}): {ends}" + (f"; no ratio at {', '.join(lost)}" if lost else "")
    if all(faster):
        return f"{line.device} is faster than the CPU at every {name} from {sizes[0]:,} {told}."
    if all(slower):
        return f"{line.device} is slower than the CPU at every {name} to {sizes[-1]:,} {told}."
    if not any(faster):
        return f"{line.device} is shown to be faster than the CPU at no {name} {told}."
    # The GPU pays from `start` on if it is faster at every larger size too.
    start = faster.index(True)
    if not all(faster[start:]):
        at = ", ".join(f"{size:,}" for size, is_ in zip(sizes, faster, strict=True) if is_)
        return f"{line.device} is faster than the CPU at {name} {at} alone {told}."
    return (
        f"{line.device} begins to pay between {name} {sizes[start - 1]:,} and {sizes[start]:,} "
        f"{told}."
    )
