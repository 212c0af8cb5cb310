"""Timings of training steps: the payload of a record of kind "timing", and its name."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError, model_validator

from vaebench.grid.timed_step import IMAGE_SHAPE, TimedStep
from vaebench.records.schema import Environment, FactRecord

REVISION = 1
"""Raised when the timed step changes; timings of an older revision are then repeated."""

MOST_BLOCKS = 100

NOISY, TOO_NOISY = 0.10, 0.25
"""With `Timing.noise` above the first a timing is marked; above the second it is not shown."""


class Timing(BaseModel):
    """A timed training step, or the reason why it has no numbers.

    Attributes:
        state: `done`; `failed` and `unavailable` have a reason instead of numbers.
        note: a note of the training, such as why the steps were not compiled.
        step_kind: how the steps were computed: `eager`, `compiled` or `captured`; older records
            lack it, their steps were eager.
        compile_seconds: duration of compiling, which no step time includes; None without it.
        hidden: sizes of the hidden layers.
        pack_size: cells trained as one program; times are divided by it.
        steps: training steps that were timed.
        warm_up_steps: steps before them that were not timed.
        block_ms: mean step time of each block of `steps_a_block` consecutive steps, in order;
            at most `MOST_BLOCKS`.
        step_ms_median: median over the blocks, ms.
        spread: interquartile range over the blocks divided by the median.
        waited: CPU contention: the share of the wall time of steps on a CPU in which the process
            waited for a core. The spread does not show contention that is constant.
        samples_per_second: training images per second at the median step, over the whole pack.
        peak_memory_mib: peak of the timing process above its level with the images loaded; on
            CUDA, the allocator's peak. Measured with eager steps, since compiling needs more
            memory than a step. If it is None, `peak_memory_reason` says why.
    """

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    revision: int = REVISION
    state: Literal["done", "failed", "unavailable"]
    reason: str | None = None
    note: str | None = None
    device: str
    latent_dim: int
    batch_size: int
    hidden: list[int]
    likelihood: str = "bernoulli"
    binarization: str = "dynamic"
    image_shape: list[int] = list(IMAGE_SHAPE)
    precision: str
    pack_size: int
    step_kind: str = "eager"
    compile_seconds: float | None = None
    threads: int | None = None
    steps: int = 0
    warm_up_steps: int = 0
    steps_a_block: int = 0
    block_ms: list[float] = []
    step_ms_median: float | None = None
    spread: float | None = None
    waited: float | None = None
    samples_per_second: float | None = None
    peak_memory_mib: float | None = None
    peak_memory_reason: str | None = None

    @model_validator(mode="after")
    def _numbers_or_reason(self) -> Self:
        if self.state != "done" and not self.reason:
            raise ValueError(f"a timing with state {self.state!r} must have a reason in words")
        if self.state == "done" and not (self.block_ms and self.step_ms_median):
            raise ValueError("a timing with state 'done' must have block times and their median")
        return self

    @property
    def noise(self) -> float | None:
        """The larger of `spread` and `waited`; None if there are no times."""
        return None if self.spread is None else max(self.spread, self.waited or 0.0)

    @classmethod
    def absent(cls, step: TimedStep, state: Literal["failed", "unavailable"], reason: str) -> Self:
        """Return a timing without numbers, with the reason."""
        return cls(state=state, reason=reason, **_design(step))

    @classmethod
    def measured(cls, step: TimedStep, seconds: Sequence[float], **facts: Any) -> Self:
        """Return a timing from the seconds of each step of the pack, at least one step."""
        steps_a_block, block_ms = blocks([1e3 * each / step.pack_size for each in seconds])
        low, median, high = quartiles(block_ms)
        numbers = {
            "steps": len(seconds),
            "steps_a_block": steps_a_block,
            "block_ms": block_ms,
            "step_ms_median": median,
            "spread": (high - low) / median,
            "samples_per_second": 1e3 * step.batch_size / median,
        }
        return cls(state="done", **{**_design(step), **numbers, **facts})

    @classmethod
    def of(cls, fact: FactRecord) -> Self:
        """Return the timing in a record.

        Raises:
            ValueError: the payload is not a timing of a known revision.
        """
        try:
            return cls.model_validate(fact.payload)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "payload"
            raise ValueError(
                f"not a timing of revision {REVISION}: {where}: {first['msg']}"
            ) from error

    def payload(self) -> dict[str, JsonValue]:
        """Return the payload of the record of this timing."""
        return self.model_dump(mode="json")


def _design(step: TimedStep) -> dict[str, Any]:
    return {
        "device": step.device,
        "latent_dim": step.latent_dim,
        "batch_size": step.batch_size,
        "hidden": [step.width],
        "precision": step.precision,
        "pack_size": step.pack_size,
        "step_kind": step.kind,
    }


def blocks(step_ms: Sequence[float]) -> tuple[int, list[float]]:
    """Return the steps per block and the mean of each block; a shorter last block is left out.

    >>> blocks([1.0, 2.0, 6.0])
    (1, [1.0, 2.0, 6.0])
    """
    size = -(-len(step_ms) // MOST_BLOCKS)
    count = len(step_ms) // size
    means = np.asarray(step_ms[: count * size], dtype=np.float64).reshape(count, size).mean(1)
    return size, [float(each) for each in means]


def quartiles(block_ms: Sequence[float]) -> tuple[float, float, float]:
    """Return the first quartile, median and third quartile of the step times of blocks.

    >>> quartiles([1.0, 2.0, 3.0, 4.0, 5.0])
    (2.0, 3.0, 4.0)
    """
    low, median, high = np.percentile(np.asarray(block_ms, dtype=np.float64), [25, 50, 75])
    return float(low), float(median), float(high)


def timing_id(step: TimedStep, environment: Environment) -> str:
    """Return the name of a timing's record: design, device and machine, as a safe folder name.

    The machine is given by processor, cores, threads, platform, device name and torch version;
    the same design on another machine is another timing.
    """
    machine = {
        name: getattr(environment, name)
        for name in ("processor", "cores", "threads", "platform", "device_name")
    }
    design = _design(step)
    if step.kind == "eager":
        del design["step_kind"]  # as in the ids of older timings, which were all eager
    content = {
        "step": design,
        "machine": machine,
        "torch": environment.versions.get("torch"),
        "revision": REVISION,
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    words = [
        f"timing-{step.device.replace(':', '')}-z{step.latent_dim}-b{step.batch_size}",
        f"w{step.width}",
        step.precision if step.precision != "float32" else "",
        f"p{step.pack_size}" if step.pack_size > 1 else "",
        step.kind if step.kind != "eager" else "",
        digest,
    ]
    return "-".join(word for word in words if word)
