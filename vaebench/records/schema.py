"""Records: the measurements of one cell or one fact as validated data, and their file format.

A cell is one trained VAE; a fact is a measurement without a cell. The file of a record is one line
of canonical JSON (ASCII, keys sorted, no spaces). Its last two fields are the length in bytes and
the SHA-256 of the text without them, so that a truncated or changed file is always detected.
"""

import hashlib
import json
import re
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from vaebench.errors import NewerSchema, RecordDamaged, RecordEdited, RecordError
from vaebench.grid.cell import Cell
from vaebench.grid.rules import is_own_data
from vaebench.records.metrics import metric_choice
from vaebench.records.migrations import MIGRATIONS

SCHEMA_PREFIX = "vaebench/record/"
SCHEMA_VERSION = 2
SCHEMA: Literal["vaebench/record/2"] = "vaebench/record/2"

State = Literal["done", "diverged", "failed", "unavailable", "interrupted", "timeout"]
STATES: tuple[State, ...] = get_args(State)

WarningCode = Literal[
    "checkpoint",
    "collapsed",
    "data",
    "early_stopping",
    "evaluated_again",
    "external",
    "impossible_score",
    "monte_carlo_kl",
    "not_a_likelihood",
    "own_loss",
    "resumed",
    "retried",
    "scale_on_floor",
    "scale_without_density",
    "step_fallback",
    "too_few_samples",
    "unbounded_density",
]
ReasonCode = Literal[
    "collapsed",
    "data",
    "device",
    "error",
    "interrupted",
    "no_density",
    "no_labels",
    "no_levels",
    "no_probability",
    "no_scale",
    "not_finite",
    "not_measurable",
    "not_requested",
    "out_of_memory",
    "timeout",
    "too_few_images",
    "worker",
]

NOT_A_LIKELIHOOD = "not a likelihood of these data"
"""The value of ``CellRecord.comparable`` that is neither "density" nor "mass"."""


class _Stored(BaseModel):
    """Base of the models: frozen, strict, finite numbers; unknown fields are kept."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow", allow_inf_nan=False)


class Note(_Stored):
    """A warning or a reason: a code for programs and a text for people.

    Programs read only the code. It is a plain string here, so that codes of newer versions load.
    """

    code: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    text: str

    @classmethod
    def of(cls, code: WarningCode | ReasonCode, text: str) -> Self:
        """Return the note with one of the known codes."""
        return cls(code=code, text=text)


class Metric(_Stored):
    """One measured number with its unit.

    `n` is the number of images behind a mean, `se` its standard error in the same unit. A metric
    without a value has a reason in words and, since schema 2, the reason's code.
    """

    value: float | None
    unit: str
    n: int | None = Field(default=None, ge=0)
    se: float | None = Field(default=None, ge=0)
    reason: str | None = None
    reason_code: str | None = None

    @model_validator(mode="after")
    def _absent_with_reason(self) -> Self:
        if self.value is None and not self.reason:
            raise ValueError("a metric without a value must have a reason in words")
        return self

    @classmethod
    def measured(
        cls, name: str, value: float, *, n: int | None = None, se: float | None = None
    ) -> Self:
        """Return the metric `name` with the unit that the registry gives it.

        Raises:
            ValueError: the metric is unknown, or a number is not finite.
        """
        return cls(value=value, unit=metric_choice(name).unit, n=n, se=se)

    @property
    def why(self) -> Note:
        """The reason of a metric without a value; "unspecified" is the code before schema 2."""
        return Note(code=self.reason_code or "unspecified", text=self.reason or "")

    @classmethod
    def absent(cls, name: str, reason: Note) -> Self:
        """Return the metric `name` without a value, with the reason."""
        unit = metric_choice(name).unit
        return cls(value=None, unit=unit, reason=reason.text, reason_code=reason.code)


class Status(_Stored):
    """How a cell ended: a state, a reason unless it is `done`, and the step at which it ended."""

    state: State
    reason: str | None = None
    reason_code: str | None = None
    step: int | None = Field(default=None, ge=0)
    detail: dict[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _failure_with_reason(self) -> Self:
        if self.state != "done" and not self.reason:
            raise ValueError(f"the status {self.state!r} must have a reason in words")
        return self


class Environment(_Stored):
    """The machine and the software versions of a record; nothing else of the machine is recorded.

    There is no host name, path or environment variable. `versions` maps the name of a package (and
    `python`) to its version; `threads` is the number of threads of the computation.
    """

    versions: dict[str, str] = Field(default_factory=dict)
    platform: str | None = None
    processor: str | None = None
    cores: int | None = None
    threads: int | None = None
    device_name: str | None = None
    driver: str | None = None
    commit: str | None = None


class DataFacts(_Stored):
    """The data of a cell: shape is (C, H, W); `levels` is empty for real-valued data and counts.

    `grey_levels` is their number before binarisation, `classes` are the names of the labels, and
    `columns` those of a table's columns. With `shift` and `scale`, one number for each column, the
    networks saw (x - shift) / scale, or log(1 + x) - shift for counts; everything else in the
    record is in the unit of the data.
    """

    name: str
    checksum: str
    shape: tuple[int, int, int]
    levels: int | None
    binarization: str
    dequantize: bool
    n_train: int
    n_valid: int
    n_test: int
    support: Literal["binary", "grey", "dequantised", "real", "counts"]
    grey_levels: int | None = None
    classes: list[str] | None = None
    columns: list[str] | None = None
    shift: list[float] | None = None
    scale: list[float] | None = None


class Record(_Stored):
    """The fields of every record; `arrays_sha256` is the SHA-256 of its `arrays.npz`."""

    version: Literal["vaebench/record/2"] = Field(default=SCHEMA, alias="schema")
    kind: str
    environment: Environment = Field(default_factory=Environment)
    arrays_sha256: str | None = None


class CellRecord(Record):
    """The measurements of one cell.

    Attributes:
        series: one number per epoch (train_elbo, train_reconstruction_error, train_kl, sigma,
            learning_rate), None where it was not finite.
        comparable: the kind of the likelihood for these data: "mass", "density" or "not a
            likelihood of these data".
        weights_sha256: SHA-256 of `weights.safetensors`, if the weights were kept.
        network_sha256: SHA-256 of the file of a user's network.
        trained_as: the id of the cell whose training gave the weights, if it is another cell: a
            longer training that includes this one, or one whose weights were evaluated again.
    """

    kind: Literal["cell"] = "cell"
    cell_id: str
    grid: str
    cell: Cell
    data: DataFacts | None
    status: Status
    metrics: dict[str, Metric] = Field(default_factory=dict)
    series: dict[str, list[float | None]] = Field(default_factory=dict)
    warnings: list[Note] = Field(default_factory=list)
    comparable: str
    weights_sha256: str | None = None
    network_sha256: str | None = None
    trained_as: str | None = None

    @property
    def record_id(self) -> str:
        """The name of the record's folder."""
        return self.cell_id

    @property
    def is_of_rows(self) -> bool:
        """Whether the data are a user's table, which has rows and no images."""
        of_numbers = self.data is not None and self.data.support in ("real", "counts")
        return of_numbers and is_own_data(self.cell.dataset)


class FactRecord(Record):
    """A measurement without a cell: a mathematical finding, or a timing of training steps.

    Facts are not training results, so they have no axes.
    """

    kind: Literal["finding", "timing"]
    record_id: str
    payload: dict[str, JsonValue]


_RECORD: TypeAdapter[CellRecord | FactRecord] = TypeAdapter(
    Annotated[CellRecord | FactRecord, Field(discriminator="kind")]
)
_TRAILER = re.compile(rb',"length":(\d{1,15}),"sha256":"([0-9a-f]{64})"\}\n\Z')
_TRAILER_MOST_BYTES = 128


def to_text(record: CellRecord | FactRecord) -> bytes:
    """Return the bytes of the record's file.

    Raises:
        ValueError: a value of the record would change when it is read again.
    """
    content = record.model_dump(mode="json", by_alias=True)
    # Empty new fields are omitted, so that older versions can read the record.
    for name in ("weights_sha256", "trained_as"):
        if content.get(name, "") is None:
            del content[name]
    body = _canonical(content)
    digest = hashlib.sha256(body).hexdigest()
    text = body[:-1] + f',"length":{len(body)},"sha256":"{digest}"}}\n'.encode("ascii")
    try:
        returned = from_text(text)
    except RecordError as error:
        raise ValueError(f"the record cannot be read back from its text: {error}") from error
    if returned != record:
        raise ValueError(f"the record {record.record_id} changes when it is read from its text")
    return text


def from_text(text: bytes) -> CellRecord | FactRecord:
    """Return the record in a file's bytes, migrated in memory from an older schema.

    Raises:
        RecordDamaged: the text is not a complete record, or a field is missing.
        RecordEdited: the text is complete JSON, but was changed after it was written.
        NewerSchema: the record was written by a newer version of vaebench.
    """
    body = _verified(text)
    try:
        return _RECORD.validate_json(body)
    except ValidationError as error:
        migrated = _migrated(json.loads(body))
        if migrated is None:
            raise RecordDamaged(
                f"the checksum matches, but a field is not valid: {_details(error)}"
            ) from error
    try:
        return _RECORD.validate_json(_canonical(migrated))
    except ValidationError as error:
        raise RecordDamaged(f"a field of an older record is missing: {_details(error)}") from error


def _canonical(content: object) -> bytes:
    try:
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except ValueError as error:
        raise ValueError(f"the numbers of a record must be finite: {error}") from error
    return text.encode("ascii")


def _verified(text: bytes) -> bytes:
    """Check length and checksum of a record's text; return its canonical JSON."""
    start = max(0, len(text) - _TRAILER_MOST_BYTES)
    trailer = _TRAILER.search(text, start)
    if trailer is not None:
        body = text[: trailer.start()] + b"}"
        length, digest = int(trailer[1]), trailer[2].decode("ascii")
        if len(body) == length and hashlib.sha256(body).hexdigest() == digest:
            return body
    raise _mismatch(text)


def _mismatch(text: bytes) -> RecordError:
    """Return the error of a text with a wrong checksum: damaged, edited, or a newer format."""
    if not text.strip(b"\0"):
        what = "NUL bytes only" if text else "empty"
        return RecordDamaged(f"a record must be one line of JSON; the file is {what}")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return RecordDamaged("checksum mismatch, and the text is not JSON: cut or damaged")
    if not isinstance(content, dict):
        return RecordDamaged("a record must be a JSON object with a checksum; the file is not")
    newest = _version(content)
    if newest is not None and newest > SCHEMA_VERSION:
        return _newer(newest)
    return RecordEdited("checksum mismatch: the file was changed after it was written")


def _version(content: dict[str, Any]) -> int | None:
    schema = content.get("schema")
    if not isinstance(schema, str) or not schema.startswith(SCHEMA_PREFIX):
        return None
    number = schema.removeprefix(SCHEMA_PREFIX)
    return int(number) if re.fullmatch(r"[0-9]{1,6}", number) else None


def _newer(version: int) -> NewerSchema:
    return NewerSchema(
        f"this vaebench reads records up to schema {SCHEMA_VERSION}, but the file has schema "
        f"{version}: upgrade vaebench"
    )


def _migrated(content: dict[str, Any]) -> dict[str, Any] | None:
    """Return an older record in the present schema; None if no migration applies."""
    version = _version(content)
    if version is not None and version > SCHEMA_VERSION:
        raise _newer(version)
    if version is None or version == SCHEMA_VERSION or version not in MIGRATIONS:
        return None
    for step in range(version, SCHEMA_VERSION):
        content = {**MIGRATIONS[step](content), "schema": f"{SCHEMA_PREFIX}{step + 1}"}
    return content


def _details(error: ValidationError) -> str:
    """Return the first problems of a validation error with their fields, in one line."""
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    told = [f"{'.'.join(map(str, each['loc'])) or 'record'}: {each['msg']}" for each in problems]
    return "; ".join(told[:3]) + (f"; and {len(told) - 3} more" if len(told) > 3 else "")
