"""Timed training steps: the tidy frame, what may be compared, and where a GPU pays.

A timing is compared with the CPU's of the same store, machine (processor, cores, threads, torch)
and design, never with another machine's. Of a timing that is noisy by more than 10 %, in its spread
or in waiting for a core, the number is marked; by more than 25 % none is given.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd

from vaebench.analysis.frame import Damaged, machine_name, require_folder, warn_of_unused
from vaebench.analysis.labels import is_missing, order_key, plain, shown, value_text
from vaebench.analysis.summary import number
from vaebench.records.schema import FactRecord
from vaebench.records.store import Store
from vaebench.records.timing import NOISY, TOO_NOISY, Timing, quartiles
from vaebench.system.terminal import escaped

SIZES: Final = {"batch_size": "batch size", "latent_dim": "latent dimension", "width": "width"}
"""The sizes that are swept, and their names."""

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
    """The timings of some results folders as a frame, and the records that are none."""

    frame: pd.DataFrame
    damaged: tuple[Damaged, ...] = ()

    @property
    def unused(self) -> tuple[str, ...]:
        """A line for each record that is not a timing."""
        return tuple(f"{each.name}: {each.reason}" for each in self.damaged)


@dataclass(frozen=True)
class Bench:
    """The timings of one machine in one store: what may be compared with each other."""

    label: str
    frame: pd.DataFrame


@dataclass(frozen=True)
class Line:
    """One device over one size, the others fixed: rows in order of the size."""

    device: str
    axis: str
    fixed: str
    rows: pd.DataFrame


def load_timings(path: Path | str) -> pd.DataFrame:
    """The timings of one results folder; one row for each record.

    Columns: `step_ms` is the median over blocks of steps in ms, `step_ms_low` and `step_ms_high`
    their quartiles, `spread` the interquartile range over the median, `waited` the share of the
    time in which the steps waited for a core, `verdict` what the larger of the two makes of the
    number (`steady`, `noisy`, `too noisy`, or the state of a timing without one), `ratio` how many
    times as fast as the CPU of the same machine and design, NaN where that has no answer,
    `ratio_low` and `ratio_high` the same from the quartiles, `ratio_noisy` whether either side is
    noisy. Times of a timing that is too noisy are NaN.

    Warns of records that can't be used, as `load_results` does.

    Raises:
        FileNotFoundError: there is no such folder.
        StorageError: the folder cannot be read.
    """
    frame, unused = load_timings_with_unused(path)
    warn_of_unused(path, unused)
    return frame


def load_timings_with_unused(path: Path | str) -> tuple[pd.DataFrame, list[str]]:
    """The timings of one results folder, and a line for each unused record that is not of a cell.

    Raises:
        FileNotFoundError: there is no such folder.
        StorageError: the folder cannot be read.
    """
    root = Path(path)
    require_folder(root)
    facts, damages = Store(root).read_facts()
    found = timing_frame((fact, escaped(root.name)) for fact in facts if fact.kind == "timing")
    return found.frame, [*map(str, damages), *found.unused]


def read_timings(paths: Sequence[Path]) -> Timings:
    """Read the timings of whole results folders; other records are listed and not used.

    Raises:
        StorageError: a folder cannot be listed.
    """
    found: list[tuple[FactRecord, str]] = []
    for path in paths:
        facts = (each for each in Store(path).iter_facts() if isinstance(each, FactRecord))
        found += [(fact, escaped(path.name)) for fact in facts if fact.kind == "timing"]
    return timing_frame(found)


def timing_frame(records: Iterable[tuple[FactRecord, str]]) -> Timings:
    """The frame of these records, each with the name of its store, in a fixed order."""
    rows, damaged = [], []
    for fact, store in records:
        try:
            timing = Timing.of(fact)
        except ValueError as error:
            damaged.append(Damaged(fact.record_id, str(error)))
            continue
        rows.append(_row(timing, fact, store))
    frame = pd.DataFrame(rows).reindex(columns=list(_COLUMNS))
    if frame.empty:
        return Timings(frame, tuple(damaged))
    # A device that was absent once and is there now is no longer unavailable.
    where = frame.set_index(["store", "machine", "device", *_DESIGN]).index
    absent = (frame["state"] == "unavailable").to_numpy()
    frame = frame[~(absent & where.isin(where[~absent]))]
    # Columns of numbers hold numbers, also where every timing failed.
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
    """How many times as fast as the CPU each other device is, also from the quartiles.

    The CPU's step is that of a long training, if it was timed.
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
    """The frame by machine and store, in a fixed order; no two are ever in one comparison."""
    if frame.empty:
        return ()
    several = frame["store"].nunique() > 1
    made = []
    for (store, machine), rows in frame.groupby(["store", "machine"]):
        label = f"{machine} ({store})" if several else str(machine)
        made.append(Bench(plain(label, 120), rows))
    return tuple(made)


def device_label(device: object, name: object) -> str:
    """A device with its name, where it has one: 'cuda (NVIDIA A100)'."""
    return plain(device if is_missing(name) else f"{device} ({name})")


def lines(frame: pd.DataFrame, axis: str) -> list[Line]:
    """A line for each device, precision and pack size that was timed at two sizes or more.

    Of the other two sizes those values are taken at which the bench has most sizes of `axis`.
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
    """Return which of `KINDS` tell rows of one device apart."""
    return [kind for kind in KINDS if frame.groupby("device")[kind].nunique().max() > 1]


def crossovers(frame: pd.DataFrame) -> list[str]:
    """From which size on a GPU is faster than the CPU, in sentences; nothing is extrapolated.

    A GPU counts as faster where three quarters of its blocks of steps are faster than three
    quarters of the CPU's, and as slower the other way round.
    """
    made = []
    for bench in benches(frame):
        told = [_crossover(line) for axis in SIZES for line in lines(bench.frame, axis)]
        found = [sentence for sentence in told if sentence]
        made += [f"On {bench.label}: {sentence}" for sentence in found or [_no_gpu(bench.frame)]]
    return made


def precisions(frame: pd.DataFrame) -> list[str]:
    """The gain of bfloat16: a sentence for each device of each machine."""
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
    """The sentence of one line of a GPU; None for the CPU's own, or without two ratios."""
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
    # Where a run of faster sizes begins that lasts to the end, with nothing faster before it.
    start = faster.index(True)
    if not all(faster[start:]):
        at = ", ".join(f"{size:,}" for size, is_ in zip(sizes, faster, strict=True) if is_)
        return f"{line.device} is faster than the CPU at {name} {at} alone {told}."
    return (
        f"{line.device} begins to pay between {name} {sizes[start - 1]:,} and {sizes[start]:,} "
        f"{told}."
    )
