"""What a declaration redacts is in no record, and who has the key can prove what it was."""

import hashlib
import json
from dataclasses import replace

import msgspec
import pytest
from made_calls import INSTANCE, PLACE_ORDER, SECRET, StillClock, evidence, members, tool_ask

from gateway.audit.records import Records
from gateway.audit.redaction import commitment_salt
from gateway.terms.operations import Failed, Failure, Succeeded, Unknown
from gateway.terms.verdict import Kind, Refusal, Violation

CANARY = "sk-canary-31337"
ACCOUNT = 4_155_550_123
SHY = replace(PLACE_ORDER, redacted=frozenset({"api_key", "account", "absent"}))
ARGUMENTS = json.dumps({"symbol": "ACME", "api_key": {"value": CANARY, "more": [True, None]}, "account": ACCOUNT})


@pytest.fixture
def records():
    return Records(clock=StillClock(), instance=INSTANCE, boot="boot-1", redaction_key=SECRET)


def told(request="req-1", arguments=ARGUMENTS):
    facts = {"api_key": "x", "account": 1, "note": f"for {CANARY}", "number": ACCOUNT, "price": 12}
    return msgspec.structs.replace(evidence(tool_ask(arguments=arguments, tool=SHY), facts=facts), request=request)


def every_record(records):
    message = f"the venue does not know {CANARY} of {ACCOUNT}"
    failure = Failure(reason="venue.rejected", message=message)
    refusal = Refusal(
        kind=Kind.FORBIDDEN,
        reason="no",
        sentence=message,
        violations=(Violation(field="account", description=message),),
    )
    return [
        records.intent(told(), ()),
        records.refusal(told(), refusal),
        records.outcome(told(), Failed(failure=failure)),
        records.outcome(told(), Unknown(failure=failure)),
        records.outcome(told(), Succeeded(result=json.dumps({"echo": CANARY, "to": ACCOUNT}).encode())),
    ]


def test_no_record_has_the_secret(records):
    """Attack row 48: the canary, whole or as the unsalted hash of anything that it is in."""
    ask = told().ask
    searchable = [CANARY, str(ACCOUNT), ask.digest.hex(), hashlib.sha256(ask.arguments_bytes).hexdigest()]
    searchable += [hashlib.sha256(value).hexdigest() for value in (CANARY.encode(), str(ACCOUNT).encode())]
    for record in every_record(records):
        assert [word for word in searchable if word in record.decode()] == []


def test_the_rest_stays_readable(records):
    intent, refusal, failed, *_, succeeded = map(members, every_record(records))
    assert intent["arguments"]["symbol"] == "ACME"
    assert intent["facts"] == {"note": "for [redacted]", "number": "[redacted]", "price": 12}
    assert refusal["refusal"]["sentence"] == "the venue does not know [redacted] of [redacted]"
    assert failed["failure"]["message"] == "the venue does not know [redacted] of [redacted]"
    assert succeeded["result"]["size"] > 0


def test_who_has_the_key_can_prove_a_value(records):
    intent = members(records.intent(told(), ()))
    salt = commitment_salt(SECRET, "req-1", "argument:account")
    proof = hashlib.sha256(salt + str(ACCOUNT).encode()).hexdigest()
    assert intent["arguments"]["account"] == {"redacted": f"sha256:{proof}"}
    salt = commitment_salt(SECRET, "req-1", "digest")
    assert intent["digest"] == {"redacted": "sha256:" + hashlib.sha256(salt + told().ask.digest).hexdigest()}


def test_equal_values_of_two_calls_do_not_look_equal(records):
    first, second = (members(records.intent(told(request), ())) for request in ("req-1", "req-2"))
    assert first["arguments"]["account"] != second["arguments"]["account"]
    assert first["digest"] != second["digest"]


def test_two_keys_make_two_commitments(records):
    other = Records(clock=StillClock(), instance=INSTANCE, boot="boot-1", redaction_key=b"t" * 32)
    assert members(records.intent(told(), ()))["arguments"] != members(other.intent(told(), ()))["arguments"]


def test_without_redacted_arguments_nothing_is_hidden(records):
    intent = members(records.intent(told(arguments='{"symbol":"ACME"}'), ()))
    assert intent["arguments"] == '{"symbol":"ACME"}'
    assert intent["facts"]["api_key"] == "x"
    assert isinstance(intent["digest"], str)
