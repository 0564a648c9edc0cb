"""The records: one line of JSON each, whose bytes are stored, hashed and shown as they are.

Every record has `v`, `kind` and `time_us`, in microseconds since 1970. What a person or a machine sent comes in as data
and stays data: control, bidirectional and other invisible characters are written as escapes, so that a record is one
line and safe to print (attack row 45). Redacted arguments, prompts and answers never enter (row 48).
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from gateway.audit.redaction import KEY_BYTES_MIN, Veil
from gateway.terms.aftercare import Watched
from gateway.terms.asks import Ask, ChatAsk, CountAsk, DryRunAsk, ReadAsk, ToolAsk, Unformed
from gateway.terms.caller import Caller
from gateway.terms.clock import Clock
from gateway.terms.evidence import Denied, Evidence, Facts, OperatorAct
from gateway.terms.ids import BootId, InstanceId, OperationId
from gateway.terms.latches import Reset
from gateway.terms.money import Unit
from gateway.terms.operations import (
    Claim,
    Failed,
    Failure,
    Operation,
    Outcome,
    Receipt,
    Rehearsal,
    State,
    Succeeded,
    Unknown,
)
from gateway.terms.overview import Halt, Overview
from gateway.terms.verdict import Refusal

VERSION: Final = 1

TEXT_BYTES_MAX: Final = 16 * 1024
"""A longer result, or the longer arguments of a refused call, stands in its record as hash and size."""

ABOUT_LENGTH_MAX: Final = 128
"""Of the name in a request that has not its form: longer than any real one."""

_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")


class Records:
    """Writes every record of one boot of one instance.

    `redaction_key` is a secret of at least 32 bytes: who keeps it can later prove what a redacted argument was.
    """

    __slots__ = ("_boot", "_clock", "_instance", "_redaction_key")

    def __init__(self, *, clock: Clock, instance: InstanceId, boot: BootId, redaction_key: bytes) -> None:
        if len(redaction_key) < KEY_BYTES_MIN:
            raise ValueError(f"the redaction key has {len(redaction_key)} bytes: give at least {KEY_BYTES_MIN}")
        self._clock = clock
        self._instance = instance
        self._boot = boot
        self._redaction_key = redaction_key

    def intent(self, evidence: Evidence, claims: tuple[Claim, ...]) -> bytes:
        """The record that must be durable before the effect: who asked what, on which facts and rules, what is held."""
        fields = self._asked(evidence, whole=True)
        fields["claims"] = [_claim_fields(claim) for claim in claims]
        return self._of_call("intent", evidence, fields)

    def outcome(self, evidence: Evidence, outcome: Outcome) -> bytes:
        """The record of how it ended.

        A tool's result is in it up to 16 KiB, a longer one as hash and size. A chat's result must be its summary
        (finish, usage), never the answer: the call sees to that.
        """
        veil = self._veil(evidence)
        fields: dict[str, object] = {"ask": evidence.ask.name, "operation": evidence.operation}
        fields["run"] = evidence.ask.run if isinstance(evidence.ask, ToolAsk | ChatAsk) else ""
        if isinstance(evidence.ask, ChatAsk) and evidence.ask.turn:
            fields["turn"] = evidence.ask.turn
        match outcome:
            case Succeeded(result=result, charges=charges):
                hidden = veil is not None and veil.thick
                shown = veil.result(result) if veil is not None and hidden else _bounded(result)
                fields |= {"state": State.SUCCEEDED, "result": shown, "charges": dict(charges)}
            case Failed(failure=failure, charges=charges, account=account):
                fields |= {"state": State.FAILED, "failure": _failure(failure, veil), "charges": dict(charges)}
                fields |= {"account": account.decode()} if account else {}
            case Unknown(failure=failure):
                fields |= {"state": State.UNKNOWN, "failure": _failure(failure, veil)}
        return self._of_call("outcome", evidence, fields)

    def refusal(self, evidence: Evidence, refusal: Refusal) -> bytes:
        """The record of a refused call of a known caller."""
        fields = self._asked(evidence, whole=False)
        fields |= {
            "rules": refusal.rules or evidence.rules,
            "policy_hash": refusal.policy_hash or evidence.policy_hash,
            "refusal": _refusal(refusal, self._veil(evidence)),
        }
        return self._of_call("refusal", evidence, fields)

    def dry_run(self, evidence: Evidence, rehearsal: Rehearsal) -> bytes:
        """The record of a dry run: who rehearsed what on which facts, which rules let them, and what it came to."""
        refusal = rehearsal.refusal
        fields = self._asked(evidence, whole=False)
        fields["rehearsal"] = {
            "rules": rehearsal.rules if refusal is None else refusal.rules,
            "refusal": None if refusal is None else _refusal(refusal, self._veil(evidence)),
            "claims": [_claim_fields(claim) for claim in rehearsal.claims],
        }
        return self._of_call("dry_run", evidence, fields)

    def denied(self, denied: Denied) -> bytes:
        """The record of refusals that have none of their own: whose, how many since when, and for which reasons."""
        fields = {
            "since_us": denied.since_unix_us,
            "count": denied.count,
            "added": denied.added,
            "reasons": denied.reasons,
        }
        return one_line(
            {"v": VERSION, "kind": "denied", "time_us": denied.until_unix_us, **_caller(denied.caller), **fields}
        )

    def replay(self, evidence: Evidence, operation: Operation) -> bytes:
        """The record of a stored answer that was given again."""
        fields = _ask_fields(evidence.ask, self._veil(evidence))
        fields |= {"operation": operation.id, "state": operation.state}
        fields |= {"rules": evidence.rules, "policy_hash": evidence.policy_hash}
        return self._of_call("replay", evidence, fields)

    def boot(self, last: Receipt | None, link: bytes) -> bytes:
        """The first record of a boot. It names the last record of the instance's boot before, and its link."""
        before = None
        if last is not None:
            before = {"boot": last.boot, "sequence": last.sequence, "leaf": last.leaf_hash.hex(), "link": link.hex()}
        return self._of_ledger("boot", {"instance": self._instance, "boot": self._boot, "before": before})

    def heartbeat(self) -> bytes:
        """A record that nothing happened: bounds for how long the end of a chain can have been cut off unseen."""
        return self._of_ledger("heartbeat", {"boot": self._boot})

    def lost(self, operation: Operation, state: State) -> bytes:
        """The record of an operation whose owner stopped without an outcome: unknown, or charged in full (failed)."""
        return self._of_ledger("lost", {**_named(operation), "state": state})

    def finding(self, watched: Watched, outcome: Succeeded | Failed) -> bytes:
        """The record of what was found out later: the lost outcome, or how an effect that went on stands or ended."""
        operation = watched.operation
        kind = "reconciled" if watched.lost else "followed"
        state = State.SUCCEEDED if isinstance(outcome, Succeeded) or not watched.lost else State.FAILED
        fields = {**_named(operation), "state": state, "before": _place(operation.outcome)}
        return self._of_ledger(kind, {**fields, **_found(outcome), "charges": dict(outcome.charges)})

    def withdrawal(self, operation: Operation) -> bytes:
        """The record that must be durable before an effect of a halted scope is cancelled."""
        return self._of_ledger("withdrawal", _named(operation))

    def resolution(self, act: OperatorAct, seen: Overview, outcome: Succeeded | Failed, reason: str) -> bytes:
        """The record of an outcome that an operator decided on, with what the ledger charges for it.

        `charged` has it by the places of the claims, `charges` by unit, where all places of the unit have the same. As
        in every ending, a unit that is not in `charges` is charged as held by a success, and not at all by a failure;
        and what an order's lots make of it the ledger adds in `booked`.
        """
        operation = seen.operation
        state = State.SUCCEEDED if isinstance(outcome, Succeeded) else State.FAILED
        fields = {**_named(operation), "state": state, "before": _place(operation.outcome), "reason": reason}
        return self._of_operator("resolved", act, {**fields, **_charged(seen, outcome)})

    def halt(self, halt: Halt, act: OperatorAct) -> bytes:
        """The record of a halt switch that an operator set or released."""
        fields = {"scope": halt.scope, "engaged": halt.engaged, "reason": halt.reason, "by": halt.by}
        return self._of_operator("halt", act, fields)

    def operator_refusal(self, act: OperatorAct, refusal: Refusal) -> bytes:
        """The record of a refused call of a known operator."""
        told = {"ask": act.what, "about": act.about[:ABOUT_LENGTH_MAX], "refusal": _refusal(refusal, None)}
        return self._of_operator("refusal", act, told)

    def latched(self, scope: str, operation: OperationId) -> bytes:
        """The record of a latch that engaged: this operation was the last execution that it let pass."""
        return self._of_ledger("latch", {"scope": scope, "engaged": True, "operation": operation})

    def unlatched(self, reset: Reset, act: OperatorAct) -> bytes:
        """The record of a latch that an operator reset."""
        fields = {"scope": reset.scope, "engaged": False, "reason": reset.reason, "by": reset.by}
        return self._of_operator("latch", act, fields)

    def close(self) -> bytes:
        """The last record of a boot that ended cleanly: nothing of it may be missing."""
        return self._of_ledger("close", {"boot": self._boot})

    def _of_call(self, kind: str, evidence: Evidence, fields: Mapping[str, object]) -> bytes:
        return one_line({"v": VERSION, "kind": kind, "time_us": evidence.at_unix_us, **_who(evidence), **fields})

    def _of_ledger(self, kind: str, fields: Mapping[str, object]) -> bytes:
        return one_line({"v": VERSION, "kind": kind, "time_us": self._clock.unix_us(), **fields})

    def _of_operator(self, kind: str, act: OperatorAct, fields: Mapping[str, object]) -> bytes:
        operator = act.operator
        who = {"request": act.request, "principal": operator.principal, "email": operator.email}
        head = {"v": VERSION, "kind": kind, "time_us": act.at_unix_us, **who, "operator": operator.name}
        return one_line({**head, **fields})

    def _veil(self, evidence: Evidence) -> Veil | None:
        ask = evidence.ask.rehearsed if isinstance(evidence.ask, DryRunAsk) else evidence.ask
        return Veil(ask, self._redaction_key, evidence.request) if isinstance(ask, ToolAsk) else None

    def _asked(self, evidence: Evidence, *, whole: bool) -> dict[str, object]:
        """Who asked for what; the arguments in full, or of a refused call up to 16 KiB."""
        veil = self._veil(evidence)
        fields = _ask_fields(evidence.ask, veil)
        if veil is not None:
            shown = veil.arguments()
            fields["arguments"] = shown if whole or not isinstance(shown, str) else _bounded(shown.encode())
        return fields | {
            "operation": evidence.operation,
            "facts": _shown_facts(evidence.facts, veil),
            "rules": evidence.rules,
            "policy_hash": evidence.policy_hash,
        }


def one_line(fields: Mapping[str, object]) -> bytes:
    """JSON on one line of visible characters; half a surrogate pair becomes U+FFFD, as no encoder can write it."""
    try:
        line = _ENCODER.encode(fields)
    except UnicodeEncodeError:
        line = _ENCODER.encode(_mended(fields))
    # The encoder writes escapes for all that ASCII has of invisible characters, but for the last one.
    if line.isascii() and b"\x7f" not in line:
        return line
    text = line.decode()
    return line if text.isprintable() else "".join(_visible(text)).encode()


def _visible(text: str) -> Iterable[str]:
    """What stands outside ASCII in JSON stands in a string, where an escape means the same (RFC 8259, section 7)."""
    for character in text:
        if character.isprintable():
            yield character
        else:
            unit = character.encode("utf-16-be").hex()
            yield "".join(f"\\u{unit[start : start + 4]}" for start in range(0, len(unit), 4))


def _mended(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, Mapping):
        return {_mended(name): _mended(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_mended(member) for member in value]
    return value


def _who(evidence: Evidence) -> dict[str, object]:
    return {"request": evidence.request, **_caller(evidence.caller)}


def _caller(caller: Caller) -> dict[str, object]:
    return {
        "principal": caller.principal,
        "email": caller.email,
        "agent": caller.agent,
        "team": caller.team,
        "tenant": caller.tenant,
        "role": caller.role,
    }


def _ask_fields(ask: Ask | Unformed, veil: Veil | None) -> dict[str, object]:
    match ask:
        case ToolAsk():
            digest = ask.digest.hex() if veil is None else veil.digest()
            fields = {"version": ask.tool.version, "declaration": ask.tool.hash, "run": ask.run, "key": ask.key}
            return {"ask": ask.name, **fields, "digest": digest}
        case ChatAsk():
            fields = {"ask": ask.name, "model": ask.model, "run": ask.run, "digest": ask.digest.hex()}
            return {**fields, "turn": ask.turn, "chat": ask.chat} if ask.turn else dict(fields)
        case CountAsk():
            return {"ask": ask.name, "model": ask.model, "digest": ask.digest.hex()}
        case DryRunAsk():
            return _ask_fields(ask.rehearsed, veil) | {"ask": ask.name, "about": ask.rehearsed.name}
        case ReadAsk():
            return {"ask": ask.name, "about": ask.operation}
        case Unformed():
            return {"ask": ask.name, "about": ask.about[:ABOUT_LENGTH_MAX]}


def _named(operation: Operation) -> dict[str, object]:
    key = operation.key
    return {"operation": operation.id, "tenant": key.tenant, "principal": key.principal, "tool": key.tool}


def _place(receipt: Receipt | None) -> dict[str, object] | None:
    """Where the ending before stands."""
    if receipt is None:
        return None
    place = {"instance": receipt.instance, "boot": receipt.boot, "sequence": receipt.sequence}
    return {**place, "leaf": receipt.leaf_hash.hex()}


def _found(outcome: Succeeded | Failed) -> dict[str, object]:
    if isinstance(outcome, Succeeded):
        return {"result": _bounded(outcome.result), "open": outcome.live}
    return {"failure": _failure(outcome.failure, None), "open": False}


def _charged(seen: Overview, outcome: Succeeded | Failed) -> dict[str, object]:
    as_held = isinstance(outcome, Succeeded)
    told = seen.charged(dict(outcome.charges), as_held=as_held)
    units: dict[Unit, set[int]] = {}
    for held, amount in told:
        units.setdefault(held.unit, set()).add(amount)
    places = [
        {"scope": held.scope, "unit": held.unit, "window": held.window, "amount": amount} for held, amount in told
    ]
    charges = {unit: min(amounts) for unit, amounts in units.items() if len(amounts) == 1 and (as_held or any(amounts))}
    return {"charges": charges, "charged": places}


def _claim_fields(claim: Claim) -> dict[str, object]:
    return {
        "scope": claim.scope,
        "unit": claim.unit,
        "window": claim.window,
        "limit": claim.limit,
        "amount": claim.amount,
    }


def _failure(failure: Failure, veil: Veil | None) -> dict[str, object]:
    return {"reason": failure.reason, "message": _told(failure.message, veil)}


def _refusal(refusal: Refusal, veil: Veil | None) -> dict[str, object]:
    return {
        "kind": refusal.kind.value,
        "reason": refusal.reason,
        "sentence": _told(refusal.sentence, veil),
        "violations": [[told.field, _told(told.description, veil)] for told in refusal.violations],
        "operation": refusal.operation_id,
    }


def _told(text: str, veil: Veil | None) -> str:
    return text if veil is None else veil.text(text)


def _shown_facts(facts: Facts, veil: Veil | None) -> Facts:
    return dict(facts if veil is None else veil.facts(facts))


def _bounded(data: bytes) -> object:
    """The text, or the hash and the size of what is too long or no text."""
    if len(data) <= TEXT_BYTES_MAX:
        try:
            return data.decode()
        except UnicodeDecodeError:
            pass
    return {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
