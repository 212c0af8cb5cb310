"""A record's text: whole and equal, or refused with the right reason."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from vaebench.errors import NewerSchema, RecordDamaged, RecordEdited, RecordError
from vaebench.grid.cell import Cell
from vaebench.records import schema
from vaebench.records.schema import CellRecord, FactRecord, Metric, Note, Status, from_text, to_text

RecordFactory = Callable[..., CellRecord]
GOLDEN = Path(__file__).parent.parent / "golden"


def content_of(text: bytes) -> dict[str, Any]:
    """Return a record's fields without its trailer."""
    fields: dict[str, Any] = json.loads(text)
    del fields["length"], fields["sha256"]
    return fields


def sealed(content: object) -> bytes:
    """Return content as a file whose length and checksum fit, by the format's own words."""
    body = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    digest = hashlib.sha256(body).hexdigest()
    return body[:-1] + f',"length":{len(body)},"sha256":"{digest}"}}\n'.encode()


def test_text_gives_the_record_back_and_the_same_text_again(make_record: RecordFactory) -> None:
    record = make_record()
    text = to_text(record)
    assert from_text(text) == record
    assert to_text(from_text(text)) == text
    assert text == sealed(content_of(text))
    assert text.count(b"\n") == 1
    assert text.isascii()


def test_floats_come_back_bit_for_bit(make_record: RecordFactory) -> None:
    values = [0.1, 1 / 3, 1e-308, -0.0, 2.0**60 + 1, 123456789.12345679]
    back = from_text(to_text(make_record(series={"sigma": values})))
    assert isinstance(back, CellRecord)
    assert [float(v).hex() for v in back.series["sigma"] if v is not None] == [
        v.hex() for v in values
    ]


def test_a_fact_comes_back(fact: FactRecord) -> None:
    assert from_text(to_text(fact)) == fact


def test_text_of_any_script_and_control_characters_comes_back(make_record: RecordFactory) -> None:
    status = Status(state="failed", reason='"naïve"\n\0 ‮ 🧪', detail={"trace": ["a", None, 1.5]})
    record = make_record(status=status)
    assert from_text(to_text(record)) == record


def test_text_that_utf8_cannot_hold_is_refused_before_it_is_written(
    make_record: RecordFactory,
) -> None:
    status = Status.model_construct(state="failed", reason="\udc80", step=None, detail={})
    with pytest.raises(ValueError, match="cannot be read back from its text"):
        to_text(make_record(status=status))


def test_a_change_behind_validation_is_refused_before_it_is_written(
    make_record: RecordFactory,
) -> None:
    record = make_record().model_copy(update={"series": {"sigma": [float("nan")]}})
    with pytest.raises(ValueError, match="numbers of a record must be finite"):
        to_text(record)


def test_truncation_at_every_byte_is_never_a_record(make_record: RecordFactory) -> None:
    text = to_text(make_record())
    for end in range(len(text) - 1):
        with pytest.raises(RecordDamaged):
            from_text(text[:end])
    with pytest.raises(RecordError):
        from_text(text[:-1])


def test_a_flipped_bit_in_any_byte_is_never_a_record(make_record: RecordFactory) -> None:
    text = to_text(make_record())
    draw = np.random.default_rng(0)
    trailer = len(text) - 100
    for place in range(len(text)):
        for bit in range(8) if place >= trailer else (int(draw.integers(8)),):
            turned = bytearray(text)
            turned[place] ^= 1 << bit
            with pytest.raises(RecordError):
                from_text(bytes(turned))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "empty"),
        (b"\0" * 4096, "NUL"),
        (b"\0", "NUL"),
        (b"[1, 2]\n", "JSON object"),
        (b"not json", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
    ],
    ids=["empty", "nul", "one-nul", "list", "words", "bytes", "deep"],
)
def test_what_is_no_record_is_damaged(text: bytes, told: str) -> None:
    with pytest.raises(RecordDamaged, match=told):
        from_text(text)


def test_appended_and_nul_padded_records_are_refused(make_record: RecordFactory) -> None:
    text = to_text(make_record())
    for longer in (text + b"\n", text + b"\0" * 512, text + text):
        with pytest.raises(RecordError):
            from_text(longer)


def test_an_edit_by_hand_is_told_from_damage(make_record: RecordFactory) -> None:
    text = to_text(make_record())
    better = text.replace(b'"value":12.5', b'"value":99.5')
    assert better != text
    with pytest.raises(RecordEdited, match="changed after it was written"):
        from_text(better)
    with pytest.raises(RecordEdited):
        from_text(json.dumps(json.loads(text), indent=2).encode())


@pytest.mark.parametrize("reseal", [True, False], ids=["our-checksum", "another-format"])
def test_a_newer_schema_says_upgrade(make_record: RecordFactory, reseal: bool) -> None:
    content = {**content_of(to_text(make_record())), "schema": "vaebench/record/3", "new": {}}
    del content["comparable"]
    text = sealed(content) if reseal else json.dumps(content).encode()
    with pytest.raises(NewerSchema, match="upgrade vaebench"):
        from_text(text)


@pytest.mark.parametrize(
    "field", ["cell_id", "cell", "status", "kind", "grid", "comparable", "data"]
)
def test_a_missing_field_is_damage_and_named(make_record: RecordFactory, field: str) -> None:
    content = content_of(to_text(make_record()))
    del content[field]
    with pytest.raises(RecordDamaged, match="a field is not valid") as told:
        from_text(sealed(content))
    assert field in str(told.value)


def test_a_schema_of_no_known_age_is_damage(make_record: RecordFactory) -> None:
    content = content_of(to_text(make_record()))
    for unknown in ("vaebench/record/x", "other/record/1", "vaebench/record/-1", None):
        with pytest.raises(RecordDamaged, match="schema"):
            from_text(sealed({**content, "schema": unknown}))


def test_unknown_fields_at_every_level_are_kept_on_rewrite(make_record: RecordFactory) -> None:
    content = content_of(to_text(make_record()))
    content["note"] = {"by": ["a", 1, None]}
    content["metrics"]["elbo"]["draws"] = 5
    content["environment"]["container"] = "none"
    text = sealed(content)
    assert to_text(from_text(text)) == text


def test_an_older_record_migrates_step_by_step(
    make_record: RecordFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = make_record()
    old = {**content_of(to_text(record)), "schema": "vaebench/record/0"}
    old["run"] = old.pop("grid")
    text = sealed(old)
    with pytest.raises(RecordDamaged):
        from_text(text)
    monkeypatch.setitem(
        schema.MIGRATIONS,
        0,
        lambda was: {**{k: v for k, v in was.items() if k != "run"}, "grid": was["run"]},
    )
    assert from_text(text) == record


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("record-*.json")), ids=lambda path: path.stem)
def test_records_written_long_ago_are_read(path: Path) -> None:
    text = path.read_bytes()
    record = from_text(text)
    assert isinstance(record, CellRecord)
    assert record.cell.latent_dim == 8
    assert record.metrics["elbo"].value == 12.5
    assert record.metrics["knn_accuracy"].reason == "the data have no labels"
    assert record.series == {"train_elbo": [-3.5, None], "sigma": [0.1, 0.1]}
    assert record.environment.versions["torch"] == "2.13.0"


def test_a_golden_record_of_every_schema_is_kept() -> None:
    assert (GOLDEN / f"record-{schema.SCHEMA_VERSION}.json").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, "1.0"])
def test_a_metric_is_a_finite_number(value: Any) -> None:
    with pytest.raises(ValidationError):
        Metric(value=value, unit="nats/image")


def test_an_absent_metric_needs_a_reason() -> None:
    with pytest.raises(ValidationError, match="must have a reason in words"):
        Metric(value=None, unit="nats/image")
    assert Metric.absent("kl", Note.of("no_density", "no KL")).why == Note.of("no_density", "no KL")


@pytest.mark.parametrize("changes", [{"n": -1}, {"se": -0.5}])
def test_counts_and_errors_are_not_negative(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Metric(value=1.0, unit="nats/image", **changes)


def test_a_measured_metric_has_the_unit_of_the_registry() -> None:
    assert Metric.measured("step_ms_p95", 2.0).unit == "ms"
    with pytest.raises(ValueError, match="list metrics"):
        Metric.measured("speed", 2.0)


@pytest.mark.parametrize("state", [state for state in schema.STATES if state != "done"])
def test_every_state_but_done_says_why(state: schema.State) -> None:
    with pytest.raises(ValidationError, match="must have a reason"):
        Status(state=state)
    assert Status(state=state, reason="why", step=3).step == 3


def test_an_unknown_state_is_refused() -> None:
    with pytest.raises(ValidationError, match="'done'"):
        Status(state="finished")  # type: ignore[arg-type]  # wrong on purpose


def test_records_are_frozen(make_record: RecordFactory) -> None:
    record = make_record()
    with pytest.raises(ValidationError, match="frozen"):
        record.grid = "other"  # type: ignore[misc]  # wrong on purpose
    assert record.cell == Cell(likelihood="gaussian", sigma=0.1)


def test_a_warning_of_the_first_schema_gets_its_code(make_record: RecordFactory) -> None:
    texts = {
        "collapsed or hardly trained: the mean squared error of 0.1 is above that": "collapsed",
        "a density on data with repeated exact values and none": "unbounded_density",
        "Bernoulli on grey pixels is not a likelihood of these data": "not_a_likelihood",
        "BUG: the ELBO is above the entropy of the data": "impossible_score",
        "the decoder's scale is not part of a density": "scale_without_density",
        "sigma ended on its floor of 0.001": "scale_on_floor",
        "stopped after epoch 3 and resumed": "resumed",
        "trained at a second try": "retried",
        "a checkpoint was not used": "checkpoint",
        "the last checkpoint is damaged": "checkpoint",
        "steps are not replayed as a CUDA graph": "step_fallback",
        "the training step was not compiled": "step_fallback",
        "of the test images 12 were left out": "data",
    }
    content = content_of(to_text(make_record()))
    old = sealed({**content, "schema": "vaebench/record/1", "warnings": list(texts)})
    record = from_text(old)
    assert isinstance(record, CellRecord)
    assert {note.text: note.code for note in record.warnings} == texts
    assert from_text(to_text(record)) == record


def test_a_status_and_a_metric_of_the_first_schema_have_no_code(make_record: RecordFactory) -> None:
    content = content_of(to_text(make_record()))
    content["metrics"]["kl"] = {"value": None, "unit": "nats/image", "reason": "why"}
    record = from_text(sealed({**content, "schema": "vaebench/record/1"}))
    assert isinstance(record, CellRecord)
    assert record.metrics["kl"].why == Note(code="unspecified", text="why")


def test_the_first_problems_of_a_damaged_record_are_named_and_the_others_counted(
    make_record: RecordFactory,
) -> None:
    content = content_of(to_text(make_record()))
    for count, more in ((3, ""), (4, "; and 1 more"), (5, "; and 2 more")):
        names = ["cell_id", "grid", "comparable", "series", "metrics"][:count]
        with pytest.raises(RecordDamaged) as caught:
            from_text(sealed(content | dict.fromkeys(names, 7)))
        assert str(caught.value).endswith(more)
        assert ("more" in str(caught.value)) == bool(more)
        assert sum(f"{name}: " in str(caught.value) for name in names) == 3
