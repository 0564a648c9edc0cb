"""Records say who asked for what and how it ended, on one visible line, and nothing that must not be in them."""

import hashlib
import json
from dataclasses import replace
from decimal import Decimal

import msgspec
import pytest
from made_calls import (
    CALLER,
    INSTANCE,
    NOON_US,
    PLACE_ORDER,
    SECRET,
    StillClock,
    act,
    chat_ask,
    claim,
    evidence,
    members,
    tool_ask,
)

from gateway.audit.contents import KINDS, read
from gateway.audit.records import TEXT_BYTES_MAX, Records, one_line
from gateway.terms.aftercare import Watched
from gateway.terms.asks import CountAsk, DryRunAsk, ReadAsk
from gateway.terms.evidence import Denied
from gateway.terms.latches import Reset
from gateway.terms.money import Unit
from gateway.terms.operations import (
    Failed,
    Failure,
    Operation,
    OperationKey,
    Receipt,
    Rehearsal,
    State,
    Succeeded,
    Unknown,
)
from gateway.terms.overview import Halt, Overview
from gateway.terms.verdict import Kind, Refusal, Violation

RECEIPT = Receipt(instance=INSTANCE, boot="boot-1", sequence=3, leaf_hash=b"\x01" * 32)
STORED = Operation(
    id="op-1",
    key=OperationKey(tenant="acme", principal="1001", tool="place_order", key="k-1"),
    version="1",
    fingerprint=b"f" * 32,
    state=State.SUCCEEDED,
    result=b"{}",
    failure=None,
    rules=(),
    policy_hash="",
    intent=RECEIPT,
    outcome=RECEIPT,
    created_unix_us=1,
    lease_until_unix_us=2,
)
REFUSAL = Refusal(
    kind=Kind.FORBIDDEN,
    reason="limit.notional",
    sentence="Order less.",
    rules=("max-notional",),
    violations=(Violation(field="qty", description="too many"),),
)
DENIED = Denied(
    caller=CALLER, since_unix_us=1, until_unix_us=2, count=3, added=1, reasons={"policy.denied": 2, "limit.rate": 1}
)
WHO = {
    "request": "req-1",
    "principal": "1001",
    "email": "trader@example.iam.gserviceaccount.com",
    "agent": "trader",
    "team": "desk",
    "tenant": "acme",
    "role": "trader",
}


@pytest.fixture
def records():
    return Records(clock=StillClock(), instance=INSTANCE, boot="boot-1", redaction_key=SECRET)


def test_an_intent_says_everything(records):
    ask = tool_ask(arguments='{"symbol":"ACME",  "qty":"1.50"}')
    told = evidence(ask, facts={"price": 12, "open": True, "venue": "paper"})
    assert members(records.intent(told, (claim(amount=3),))) == {
        "v": 1,
        "kind": "intent",
        "time_us": NOON_US,
        **WHO,
        "operation": "op-1",
        "ask": "place_order",
        "version": "1",
        "declaration": PLACE_ORDER.hash,
        "run": "run-1",
        "key": "k-1",
        "digest": ask.digest.hex(),
        "arguments": '{"symbol":"ACME",  "qty":"1.50"}',
        "facts": {"price": 12, "open": True, "venue": "paper"},
        "rules": ["allow-trading"],
        "policy_hash": "f0" * 32,
        "claims": [{"scope": "agent:trader", "unit": "calls", "window": "day:2026-11-29", "limit": 10, "amount": 3}],
    }


@pytest.mark.parametrize(
    "outcome, said",
    [
        (
            Succeeded(result=b'{"id":"1"}', charges=((Unit.TOKENS, 5),)),
            {"state": "succeeded", "result": '{"id":"1"}', "charges": {"tokens": 5}},
        ),
        (
            Failed(failure=Failure(reason="venue.rejected", message="No.")),
            {"state": "failed", "failure": {"reason": "venue.rejected", "message": "No."}, "charges": {}},
        ),
        (
            Unknown(failure=Failure(reason="upstream.timeout", message="No reply.")),
            {"state": "unknown", "failure": {"reason": "upstream.timeout", "message": "No reply."}},
        ),
    ],
)
def test_an_outcome_says_how_it_ended(records, outcome, said):
    told = members(records.outcome(evidence(tool_ask()), outcome))
    head = {
        "v": 1,
        "kind": "outcome",
        "time_us": NOON_US,
        **WHO,
        "operation": "op-1",
        "ask": "place_order",
        "run": "run-1",
    }
    assert told == head | said


def test_a_long_result_stands_as_hash_and_size(records):
    for result, shown in [
        (b'"' + b"x" * (TEXT_BYTES_MAX - 2) + b'"', True),
        (b'"' + b"x" * (TEXT_BYTES_MAX - 1) + b'"', False),
        (b'"\xff"', False),
    ]:
        told = members(records.outcome(evidence(tool_ask()), Succeeded(result=result)))["result"]
        expected = {"sha256": hashlib.sha256(result).hexdigest(), "size": len(result)}
        assert told == (result.decode() if shown else expected)


def test_a_refusal_says_what_was_asked_and_why_not(records):
    told = members(records.refusal(evidence(tool_ask(), ""), REFUSAL))
    assert told["kind"] == "refusal"
    assert told["operation"] == ""
    assert told["arguments"] == '{"symbol":"ACME"}'
    assert (told["rules"], told["policy_hash"]) == (["max-notional"], "f0" * 32)
    assert told["refusal"] == {
        "kind": "forbidden",
        "reason": "limit.notional",
        "sentence": "Order less.",
        "violations": [["qty", "too many"]],
        "operation": "",
    }


def test_cheap_refusals_do_not_make_long_records(records):
    """Attack row 50: the arguments of an admitted call are kept whole, those of a refused one up to a bound."""
    ask = tool_ask(arguments=json.dumps({"symbol": "A" * 2 * TEXT_BYTES_MAX}))
    assert members(records.intent(evidence(ask), ()))["arguments"] == ask.arguments_bytes.decode()
    refused = records.refusal(evidence(ask, ""), REFUSAL)
    assert members(refused)["arguments"] == {
        "sha256": hashlib.sha256(ask.arguments_bytes).hexdigest(),
        "size": len(ask.arguments_bytes),
    }


def test_a_replay_names_the_operation(records):
    told = members(records.replay(evidence(tool_ask()), STORED))
    assert (told["kind"], told["operation"], told["state"]) == ("replay", "op-1", "succeeded")
    assert told["digest"] == tool_ask().digest.hex()


@pytest.mark.parametrize(
    "ask", [chat_ask(), CountAsk(model="gemini", conversation=chat_ask().conversation, digest=b"n" * 32)]
)
def test_a_prompt_is_only_its_digest(records, ask):
    for record in (records.intent(evidence(ask), ()), records.refusal(evidence(ask), REFUSAL)):
        told = members(record)
        assert (told["model"], told["digest"]) == ("gemini", ask.digest.hex())
        assert "secret plan" not in record.decode()
        assert "arguments" not in told


def test_a_reading_of_the_gateway_itself(records):
    told = members(records.refusal(evidence(ReadAsk(what="get_operation", operation="op-9"), ""), REFUSAL))
    assert (told["ask"], told["about"]) == ("get_operation", "op-9")


def test_the_ledgers_own_records(records):
    boot = members(records.boot(None, b"\x00" * 32))
    assert boot == {
        "v": 1,
        "kind": "boot",
        "time_us": NOON_US,
        "instance": INSTANCE,
        "boot": "boot-1",
        "before": None,
    }
    before = members(records.boot(RECEIPT, b"\x02" * 32))["before"]
    assert before == {"boot": "boot-1", "sequence": 3, "leaf": "01" * 32, "link": "02" * 32}
    lost = members(records.lost(msgspec.structs.replace(STORED, state=State.DISPATCHED), State.UNKNOWN))
    assert (lost["kind"], lost["operation"], lost["state"]) == ("lost", "op-1", "unknown")
    halt = members(records.halt(HALT, act()))
    assert (halt["scope"], halt["engaged"], halt["reason"], halt["by"]) == ("all", True, "closed", "oncall")
    assert (halt["operator"], halt["principal"], halt["request"]) == ("oncall", "9", "req-1")
    assert [members(made())["kind"] for made in (records.heartbeat, records.close)] == ["heartbeat", "close"]


HALT = Halt(scope="all", engaged=True, reason="closed", by="oncall")
FAILURE = Failure(reason="venue.order_canceled", message="The order ended.")
SEEN = Overview(
    operation=msgspec.structs.replace(STORED, state=State.UNKNOWN),
    number=1,
    kind="tool",
    run="",
    owner="gateway-1",
    halts=(),
    looks=0,
    look_unix_us=None,
    fence=1,
)


def watched(state):
    return Watched(
        operation=msgspec.structs.replace(STORED, state=state), memo=b"", held=(), looks=0, withdraw=False, fence=2
    )


def test_what_came_later_says_what_was_before(records):
    """So that the records of an operation can be followed back from the last one."""
    one = watched(State.RECONCILING)
    one = replace(one, operation=msgspec.structs.replace(one.operation, outcome=RECEIPT))
    told = members(records.finding(one, Succeeded(result=b'{"a":1}', charges=((Unit.CALLS, 1),), live=True)))
    before = {"instance": "gateway-1", "boot": "boot-1", "sequence": 3, "leaf": "01" * 32}
    assert (told["kind"], told["state"], told["before"], told["open"]) == ("reconciled", "succeeded", before, True)
    assert told["charges"] == {"calls": 1}
    told = members(records.finding(watched(State.SUCCEEDED), FAILED))
    assert (told["kind"], told["state"], told["failure"]["reason"]) == ("followed", "succeeded", "venue.order_canceled")
    told = members(records.resolution(act("resolve_operation"), SEEN, FAILED, "nothing is at the venue"))
    assert (told["kind"], told["state"], told["operator"]) == ("resolved", "failed", "oncall")
    assert (told["reason"], told["before"]) == ("nothing is at the venue", before)


FAILED = Failed(failure=FAILURE)


def test_the_verifier_knows_every_kind(records):
    told = evidence(tool_ask())
    made = [
        records.boot(RECEIPT, b"\x02" * 32),
        records.intent(told, ()),
        records.outcome(told, Succeeded(result=b"{}")),
        records.lost(STORED, State.FAILED),
        records.finding(watched(State.RECONCILING), Failed(failure=FAILURE)),
        records.resolution(act("resolve_operation"), SEEN, Succeeded(result=b"{}"), "the venue's statement"),
        records.finding(watched(State.SUCCEEDED), Failed(failure=FAILURE)),
        records.withdrawal(STORED),
        records.refusal(told, REFUSAL),
        records.denied(DENIED),
        records.dry_run(evidence(DryRunAsk(rehearsed=tool_ask())), Rehearsal()),
        records.replay(told, STORED),
        records.halt(HALT, act()),
        records.latched("agent:trader/place_order", "op-1"),
        records.heartbeat(),
        records.close(),
    ]
    assert [read(record).kind for record in made] == list(KINDS)


def test_a_sum_of_refusals_says_whose_how_many_and_why(records):
    told = members(records.denied(DENIED))
    assert {name: told[name] for name in WHO if name != "request"} == {n: v for n, v in WHO.items() if n != "request"}
    assert (told["time_us"], told["since_us"], told["count"], told["added"]) == (2, 1, 3, 1)
    assert told["reasons"] == {"policy.denied": 2, "limit.rate": 1}


def test_a_dry_run_says_what_was_rehearsed_and_what_it_came_to(records):
    asked = evidence(DryRunAsk(rehearsed=tool_ask()), "", facts={"notional_micro_usd": 7})
    told = members(records.dry_run(asked, Rehearsal(rules=("base.trade",), claims=(claim(amount=3),))))
    assert (told["kind"], told["ask"], told["about"], told["facts"]) == (
        "dry_run",
        "dry_run",
        "place_order",
        {"notional_micro_usd": 7},
    )
    assert (told["rules"], told["arguments"]) == (["allow-trading"], '{"symbol":"ACME"}')
    assert told["rehearsal"]["rules"] == ["base.trade"]
    assert [(one["scope"], one["amount"]) for one in told["rehearsal"]["claims"]] == [("agent:trader", 3)]
    refused = members(records.dry_run(asked, Rehearsal(refusal=REFUSAL)))["rehearsal"]
    assert (refused["refusal"]["reason"], refused["rules"]) == ("limit.notional", ["max-notional"])


def test_a_dry_run_hides_what_the_call_would_hide(records):
    secret = replace(PLACE_ORDER, redacted=frozenset({"note"}))
    ask = tool_ask(arguments='{"note":"hunter2-secret"}', tool=secret)
    assert b"hunter2" not in records.dry_run(evidence(DryRunAsk(rehearsed=ask), ""), Rehearsal(refusal=REFUSAL))


def test_a_latch_says_what_engaged_it_and_who_reset_it(records):
    engaged = members(records.latched("agent:trader/place_order", "op-1"))
    assert (engaged["kind"], engaged["engaged"], engaged["operation"]) == ("latch", True, "op-1")
    reset = members(records.unlatched(Reset(scope="agent:trader/place_order", reason="looked at", by="eve"), act()))
    assert (reset["kind"], reset["engaged"], reset["reason"], reset["by"]) == ("latch", False, "looked at", "eve")


HOSTILE = 'a\nb\r\x00\x1b[2J\x7f\x85\u2028\u2029\u202eevil\u2066\u200b\ufeff\U000e0041\xad"}\n{"v":1'


def test_a_record_is_one_visible_line(records):
    """Attack row 45."""
    ask = tool_ask(arguments=json.dumps({"symbol": HOSTILE}, ensure_ascii=False))
    failure = Failure(reason=HOSTILE, message=HOSTILE)
    told = evidence(ask, facts={HOSTILE: HOSTILE})
    told = msgspec.structs.replace(told, caller=replace(told.caller, email=HOSTILE, role=HOSTILE), request=HOSTILE)
    for record in (
        records.intent(told, (claim(scope=HOSTILE),)),
        records.outcome(told, Failed(failure=failure)),
        records.outcome(told, Succeeded(result=json.dumps({"a": HOSTILE}, ensure_ascii=False).encode())),
        records.refusal(told, replace(REFUSAL, sentence=HOSTILE)),
        records.halt(replace(HALT, scope=HOSTILE, reason=HOSTILE), act(about=HOSTILE)),
        records.operator_refusal(act(HOSTILE, HOSTILE), replace(REFUSAL, sentence=HOSTILE)),
    ):
        assert record.decode().isprintable()
        assert HOSTILE in flat(json.loads(record))


def flat(value):
    if isinstance(value, dict):
        return [word for name, member in value.items() for word in (name, *flat(member))]
    if isinstance(value, list):
        return [word for member in value for word in flat(member)]
    return [value]


def test_readable_words_stay_readable():
    assert one_line({"name": "Zürich 東京"}).decode() == '{"name":"Zürich 東京"}'


def test_half_a_surrogate_pair_does_not_stop_a_record():
    assert json.loads(one_line({"a": ["\ud800x", {"b\udc00": ("\U0001f4a9", 1)}]})) == {
        "a": ["\ufffdx", {"b\ufffd": ["\U0001f4a9", 1]}]
    }


def test_numbers_stay_what_they_are():
    assert one_line({"a": 10**39, "b": Decimal("1.50"), "c": -(2**64)}) == b'{"a":' + str(10**39).encode() + (
        b',"b":1.50,"c":-18446744073709551616}'
    )


def test_a_short_redaction_key_is_refused():
    with pytest.raises(ValueError, match="at least 32"):
        Records(clock=StillClock(), instance=INSTANCE, boot="boot-1", redaction_key=b"short")
