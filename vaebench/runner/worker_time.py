"""How the workers of a run spend their time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vaebench.runner.messages import Outcome


@dataclass
class WorkerTime:
    """Total seconds of all workers by kind of work.

    Attributes:
        workers: number of processes.
        wall: seconds from the start of the first worker to the end of the last.
        busy: seconds spent on packs.
        training, tsne, evaluation: parts of `busy`, from the records; evaluation excludes t-SNE.
    """

    workers: int
    wall: float = 0.0
    busy: float = 0.0
    training: float = 0.0
    tsne: float = 0.0
    evaluation: float = 0.0

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """Add the times in the records of a pack."""
        for outcome in outcomes:
            tsne = _seconds(outcome, "tsne_seconds")
            if outcome.trained:
                self.training += _seconds(outcome, "train_seconds")
            self.tsne += tsne
            self.evaluation += _seconds(outcome, "evaluation_seconds") - tsne

    def shares(self) -> dict[str, float]:
        """Return the share of each kind of work in the total time of the workers."""
        total = self.workers * self.wall
        if total == 0:
            return {}
        # The record of a resumed training includes time before this run.
        training = min(self.training, self.busy - self.tsne - self.evaluation)
        kinds = {
            "training": training,
            "t-SNE": self.tsne,
            "other evaluation": self.evaluation,
            "data, models and records": self.busy - training - self.tsne - self.evaluation,
            "starting and waiting": total - self.busy,
        }
        return {kind: max(0.0, seconds) / total for kind, seconds in kinds.items()}

    def text(self) -> str:
        """Return the shares as one line of text."""
        shares = ", ".join(f"{kind} {share:.0%}" for kind, share in self.shares().items())
        plural = "s" if self.workers > 1 else ""
        return f"{self.workers} worker{plural} for {self.wall:.0f} s: {shares}"


def _seconds(outcome: Outcome, name: str) -> float:
    metric = outcome.record.metrics.get(name)
    return 0.0 if metric is None or metric.value is None else metric.value
