"""The table of timed training steps."""

from collections.abc import Sequence
from typing import Any, Final

import pandas as pd

from vaebench.analysis.labels import is_missing, plain, shown, value_text
from vaebench.analysis.summary import number
from vaebench.analysis.timing import Bench, device_label, varying_kinds
from vaebench.records.timing import NOISY, TOO_NOISY
from vaebench.report.tables import Table

_KIND_HEADS: Final = {"precision": "precision", "pack_size": "pack", "step_kind": "step"}


def timing_table(bench: Bench, name: str) -> Table:
    """Return the timings of one machine, one row per design and device."""
    frame = bench.frame
    kinds = varying_kinds(frame)
    several = frame["device"].nunique() > 1
    # A device with a single name here is described once, in the title.
    known = frame.dropna(subset=["device_name"]).groupby("device")["device_name"].unique()
    titles = {str(device): names[0] for device, names in known.items() if len(names) == 1}
    header = ["device", "latent dim", "batch", "width", *(_KIND_HEADS[kind] for kind in kinds)]
    units = ["" for _ in header]
    header += ["step, median", "spread", "throughput", "peak memory"]
    units += ["ms", "% of median", "images/s", "MiB"]
    if several:
        header.append("speed-up")
        units.append("× CPU")
    rows = [_entries(row, kinds, several, titles) for _, row in frame.iterrows()]
    if any(row[-1] for row in rows):
        header.append("remark")
        units.append("")
    else:
        rows = [row[:-1] for row in rows]
    steps = sorted(int(count) for count in frame["steps"] if count > 0)
    ends = " to ".join(f"{count:,}" for count in dict.fromkeys(steps[:1] + steps[-1:]))
    about = "".join(f"; {plain(f'{device} is {of}')}" for device, of in titles.items())
    return Table(
        name=name,
        title=f"Training steps on {bench.label}{about}",
        header=tuple(header),
        units=tuple(units),
        rows=tuple(rows),
        numeric=tuple(head not in ("device", "precision", "step", "remark") for head in header),
        notes=(
            *((f"timed: {ends} steps, after a warm-up",) if steps else ()),
            *_step_kinds(frame),
            "spread: interquartile range over blocks of steps",
            f"marked †: spread, or waiting time for a core, above {NOISY:.0%}; above "
            f"{TOO_NOISY:.0%} no number is given",
            "peak memory: of the process that was timed, without the images; on CUDA, of the "
            "allocator",
        ),
        values=frame,
    )


def _entries(
    row: "pd.Series[Any]", kinds: Sequence[str], several: bool, titles: dict[str, str]
) -> tuple[str, ...]:
    """The entries of one row; the last one is the remark."""
    device = row["device"]
    label = plain(device) if device in titles else device_label(device, row["device_name"])
    mark = " †" if row["verdict"] == "noisy" else ""
    rate = row["samples_per_second"]
    entries = [
        label,
        *(shown(row[size]) for size in ("latent_dim", "batch_size", "width")),
        *(value_text(row[kind]) for kind in kinds),
        _entry(row["step_ms"], (row["step_ms_high"] - row["step_ms_low"]) / 2, mark),
        "n/a" if is_missing(row["spread"]) else f"{100 * row['spread']:.1f}",
        _entry(rate, rate * row["spread"] / 2, mark),
        _entry(row["peak_memory_mib"], 1.0),
    ]
    if several:
        half = (row["ratio_high"] - row["ratio_low"]) / 2
        ratio = _entry(row["ratio"], half, " †" if row["ratio_noisy"] else "")
        entries.append("" if device == "cpu" else ratio)
    return (*entries, _remark(row))


def _entry(value: float, spread: float, mark: str = "") -> str:
    return "n/a" if is_missing(value) else f"{number(value, spread)}{mark}"


def _remark(row: "pd.Series[Any]") -> str:
    if row["state"] != "done":
        return f"{row['state']}: {plain(row['reason'], 200)}"
    busy = f"waited {row['waited']:.0%} for a core" if row["waited"] > NOISY else ""
    if row["verdict"] == "too noisy":
        return ", ".join(filter(None, ("too noisy", busy)))
    texts = (("note", row["note"]), ("memory", row["peak_memory_reason"]))
    also = (f"{word}: {plain(text, 200)}" for word, text in texts if not is_missing(text))
    return "; ".join(filter(None, (busy, *also)))


def _step_kinds(frame: pd.DataFrame) -> list[str]:
    """Say how the steps of each device were computed, unless all were eager."""
    done = frame[frame["state"] == "done"]
    if (done["step_kind"] == "eager").all():
        return []
    kinds = done.groupby("device")["step_kind"].unique()
    told = [f"{device} {' and '.join(of)}" for device, of in kinds.items()]
    notes = [f"steps: {', '.join(told)}"]
    seconds = done["compile_seconds"].dropna()
    if len(seconds):
        ends = " to ".join(dict.fromkeys(f"{end:.0f}" for end in (seconds.min(), seconds.max())))
        notes.append(f"compiling took {ends} s, which is not part of a step's time")
    return notes
