"""Re-test findings (published claims): train their cells, compute facts, and give verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Unpack

from pydantic import JsonValue

from vaebench.analysis.frame import outdated_notes, read_results
from vaebench.data.catalog import absent_data
from vaebench.errors import UsageError
from vaebench.findings.evidence import Evidence, rows_of
from vaebench.findings.finding import Assessed, Finding, assess, fact_payload
from vaebench.findings.linear import LINEAR_SIZES
from vaebench.findings.registry import select_findings
from vaebench.findings.settings import BUDGETS, Budget
from vaebench.findings.verdict import Judgement
from vaebench.grid.spec import Grid
from vaebench.records.schema import FactRecord
from vaebench.records.store import Store
from vaebench.runner.run import RunOptions, RunSummary, run
from vaebench.truth.bounds import bce_ceiling, bce_floor
from vaebench.truth.ppca import LinearVAE, fit


@dataclass
class Reproduction:
    """The outcome of a re-test.

    Attributes:
        rows: every finding with its verdict.
        summary: the run of the cells.
        notes: lines about outdated records.
        absent: maps each missing data set to the reason.
    """

    rows: tuple[Assessed, ...]
    summary: RunSummary = field(default_factory=RunSummary)
    notes: tuple[str, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)


def reproduce(
    words: Sequence[str] = (),
    budget: Budget = "quick",
    store: Store | Path | str | None = None,
    *,
    data_dir: Path | None = None,
    device: str = "cpu",
    train: bool = True,
    echo: Callable[[str], None] = print,
    **options: Unpack[RunOptions],
) -> Reproduction:
    """Re-test findings: train cells without a record, compute facts, and give verdicts.

    Args:
        words: names or families of findings; all by default.
        budget: ``quick`` (digits) or ``full`` (MNIST).
        store: the results folder, by default ``results/reproduce-<budget>``.
        device: device on which cells are trained; records of any device are used.
        train: if false, only existing records are used, and nothing is trained or written.
        data_dir: the folder that is searched first for data files.
        echo: called with each line of progress.
        options: those of `vaebench.runner.run.run`, such as ``jobs``, ``retry_failed``,
            ``keep_weights`` (a cell without weights is trained again) and ``wait``.

    If a data set is missing, its findings are `not tested`, with the reason.

    Raises:
        UnknownFinding: a word is neither a name nor a family of findings.
        UsageError: the budget is unknown.
        StoreBusy, StorageError: another run uses the folder, or it cannot be written.
    """
    if budget not in BUDGETS:
        raise UsageError(f"budget must be {' or '.join(map(repr, BUDGETS))}; got {budget!r}")
    findings = select_findings(words)
    store = Store.at(store, Path("results") / f"reproduce-{budget}")
    needed = set[str]().union(*(_needs(finding, budget) for finding in findings))
    absent = absent_data(needed, data_dir)
    wanted = [finding for finding in findings if not _needs(finding, budget) & set(absent)]
    cells = [
        cell
        for finding in wanted
        if budget not in finding.untested
        for cell in finding.cells(budget)
    ]
    summary = RunSummary()
    if cells and train:
        placed = [cell.model_copy(update={"device": device}) for cell in cells]
        grid = Grid.of(f"reproduce-{budget}", placed, f"the cells of {len(wanted)} findings")
        summary = run(grid, store, data_dir=data_dir, echo=echo, **options)
    made: dict[str, dict[str, JsonValue]] = {}
    if summary.signal is None and summary.storage_error is None:
        lacking = _lacking_facts(wanted, budget, data_dir, store)
        if train:
            from vaebench.runner.machine import environment

            with store.writing(wait=options.get("wait", False)):
                for name, compute in lacking:
                    fact = FactRecord(
                        kind="finding",
                        record_id=name,
                        payload=compute(),
                        environment=environment("cpu"),
                    )
                    store.write(fact)
        else:
            made = {name: compute() for name, compute in lacking}
    evidence = collected(store)
    evidence = replace(evidence, facts={**evidence.facts, **made})
    rows = tuple(_judged(finding, evidence, budget, absent) for finding in findings)
    judged = {*cells, *(cell for each in rows for cell in each.cells)}
    return Reproduction(rows, summary, outdated_notes(rows_of(evidence.frame, judged)), absent)


def collected(store: Store) -> Evidence:
    """Return the contents of a store as evidence; damaged files count as absent."""
    results = read_results([store.root])
    facts, _ = store.read_facts()
    payloads = {fact.record_id: fact.payload for fact in facts if fact.kind == "finding"}
    return Evidence(results.frame, results.arrays, results.series, payloads)


def _needs(finding: Finding, budget: Budget) -> set[str]:
    if budget in finding.untested:
        return set()
    return {cell.dataset for cell in finding.cells(budget)} | set(finding.data(budget))


def _judged(
    finding: Finding, evidence: Evidence, budget: Budget, absent: dict[str, str]
) -> Assessed:
    """Return the verdict of a finding; if its data are missing, the reason says so."""
    judged = assess(finding, evidence, budget)
    missing = sorted(_needs(finding, budget) & set(absent))
    if judged.judgement.verdict == "not tested" and missing:
        reason = absent[missing[0]].splitlines()[0].removesuffix(".")
        return Assessed(finding, budget, None, Judgement("not tested", "no data", reason))
    return judged


_DATA_REVISION = 2


def _lacking_facts(
    findings: Sequence[Finding], budget: Budget, data_dir: Path | None, store: Store
) -> Iterator[tuple[str, Callable[[], dict[str, JsonValue]]]]:
    """Yield the name and computation of each fact without a record of the current revision."""
    known = {fact.record_id: fact.payload.get("revision") for fact in store.read_facts()[0]}
    for finding in findings:
        if finding.kind == "mathematics" and known.get(finding.fact_id) != finding.revision:
            yield finding.fact_id, partial(fact_payload, finding)
    active = [finding for finding in findings if budget not in finding.untested]
    for dataset in sorted({name for finding in active for name in finding.data(budget)}):
        if known.get(f"data-{dataset}") != _DATA_REVISION:
            yield f"data-{dataset}", partial(data_payload, dataset, data_dir)


def data_payload(dataset: str, data_dir: Path | None = None) -> dict[str, JsonValue]:
    """Compute limits on the scores of any model from the images of a data set.

    These are the eigenvalues of the covariance of the training images in squared pixels; the mean
    log-likelihood of the pPCA optimum for some latent dimensions, on the evaluated training images;
    the lowest binary cross-entropy on the test images; and the cross-entropy of the best decoder
    that ignores z. All but the eigenvalues are in nats per image.

    Raises:
        DataMissing, DataInvalid: the data are missing or damaged.
    """
    from vaebench.data.pixels import evaluation_pixels
    from vaebench.data.sources import load
    from vaebench.evaluation.evaluate import TRAIN_IMAGES

    images = load(dataset, data_dir)
    train, test = (
        evaluation_pixels(split.images, images.levels, "none", dequantize=False).numpy()
        for split in (images.train, images.test)
    )
    spectrum = fit(train)
    optima: dict[str, JsonValue] = {
        str(size): float(
            LinearVAE.optimum(spectrum, size).log_likelihood(train[:TRAIN_IMAGES]).mean()
        )
        for size in LINEAR_SIZES.values()
        if size < len(spectrum.eigenvalues)
    }
    return {
        "revision": _DATA_REVISION,
        "dataset": dataset,
        "checksum": images.checksum,
        "eigenvalues": [float(value) for value in spectrum.eigenvalues],
        "ppca_on_first": optima,
        "bce_floor_test": bce_floor(test),
        "bce_blind_test": bce_ceiling(train, test),
    }
