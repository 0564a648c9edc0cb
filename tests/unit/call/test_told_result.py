"""What the model is told of a tool call: data in a bounded object, and no more than is known."""

import json

import pytest

from gateway.call.act import Answer
from gateway.call.told_result import NOBODY_KNOWS, NOTICE, TOLD_BYTES_MAX, told
from gateway.terms.operations import Failure, Operation, OperationKey, Receipt, State
from gateway.terms.verdict import Kind, Refusal, Violation

RECEIPT = Receipt(instance="i", boot="b", sequence=1, leaf_hash=b"l" * 32)


def operation(state=State.SUCCEEDED, result=b"", failure=None):
    return Operation(
        id="op-1",
        key=OperationKey(tenant="t", principal="p", tool="place_order", key="k"),
        version="1",
        fingerprint=b"f" * 32,
        state=state,
        result=result,
        failure=failure,
        rules=(),
        policy_hash="",
        intent=RECEIPT,
        outcome=RECEIPT,
        created_unix_us=0,
        lease_until_unix_us=0,
    )


def said(answer):
    text = told(answer)
    assert len(text.encode()) <= TOLD_BYTES_MAX + 1_024
    read = json.loads(text)
    assert next(iter(read)) == "notice"
    assert read["notice"] == NOTICE
    return read


def test_a_result_stays_as_its_tool_wrote_it():
    stored = operation(result=b'{"price": 189.50, "at": 1e3}')
    assert '"result": {"price": 189.50, "at": 1e3}}' in told(Answer(operation=stored, replayed=False))
    read = said(Answer(operation=stored, replayed=True))
    assert (read["state"], read["operation"], read["replayed"]) == ("succeeded", "op-1", True)


@pytest.mark.parametrize("result", [b'{"a":1,"a":2}', b"no JSON", b'{"a":NaN}', b"\xff\xfe", b"[1]"])
def test_what_two_readers_could_read_differently_is_told_as_text(result):
    read = said(Answer(operation=operation(result=result), replayed=False))
    assert read["result_text"] == result.decode(errors="replace")
    assert "result" not in read


@pytest.mark.parametrize("filler", ["x", "é", '"', "\x00"])
def test_a_long_result_is_cut_and_said_to_be(filler):
    result = json.dumps({"text": filler * 60_000}, ensure_ascii=False).encode()
    text = told(Answer(operation=operation(result=result), replayed=False))
    read = json.loads(text)
    assert read["result_bytes"] == len(result)
    assert "cut" in read["note"]
    assert len(text.encode()) <= TOLD_BYTES_MAX + 1_024


def test_what_failed_did_not_happen_and_what_is_unknown_may_have():
    failure = Failure(reason="venue.closed", message="The market is closed.")
    failed = said(Answer(operation=operation(State.FAILED, failure=failure), replayed=False))
    assert failed["error"] == {"reason": "venue.closed", "message": "The market is closed."}
    assert "note" not in failed
    unknown = said(Answer(operation=operation(State.UNKNOWN, failure=failure), replayed=False))
    assert (unknown["state"], unknown["note"]) == ("unknown", NOBODY_KNOWS)


def test_a_refusal_is_told_with_its_reason_and_what_is_wrong():
    read = said(
        Refusal(
            kind=Kind.MALFORMED,
            reason="arguments.schema",
            sentence="No.",
            rules=("a", "b"),
            violations=tuple(Violation(field=f"/f{number}", description="x" * 5_000) for number in range(40)),
            retry_after_ms=500,
            operation_id="op-2",
        )
    )
    refused = read["refused"]
    assert (read["state"], read["happened"]) == ("refused", False)
    assert (refused["reason"], refused["rules"], refused["operation"]) == ("arguments.schema", ["a", "b"], "op-2")
    assert refused["retry_after_ms"] == 500
    assert len(refused["violations"]) == 16


def test_what_waits_for_a_person_is_pending():
    read = said(Refusal(kind=Kind.FORBIDDEN, reason="approval.required", sentence="A person must agree."))
    assert (read["state"], read["happened"]) == ("pending", False)
