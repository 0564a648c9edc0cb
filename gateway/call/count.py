"""A governed count of tokens: who, may they, can they pay, ask the upstream, settle, prove it."""

import json

from gateway.call.failures import CUT, failure, refused
from gateway.call.governed import arrived
from gateway.call.prompted import PromptRequest, prompted, reserved, unstopped
from gateway.call.stations import Stations
from gateway.terms.asks import CountAsk, Unformed
from gateway.terms.conversation import TokenCount
from gateway.terms.faults import UpstreamError
from gateway.terms.limits import CHAT_LEASE_MS
from gateway.terms.money import Unit
from gateway.terms.operations import Demand, Failed, Outcome, Succeeded
from gateway.terms.passage import Passage


async def count(at: Stations, passage: Passage, request: PromptRequest) -> TokenCount:
    """Tokens of a prompt, or raise `RefusedError`. It holds one call of every budget, whoever counts."""
    call = await arrived(at, passage, Unformed(what="count_tokens", about=request.model))
    async with call.recorded():
        model, prompt = prompted(call, request)
        call.ask = ask = CountAsk(model=model.name, conversation=prompt.conversation, digest=prompt.digest)
        permit = await call.permit(ask)
        with passage.stages.stage("intent"):
            admission = call.admission(permit, Demand(amounts={Unit.CALLS: 1}), CHAT_LEASE_MS)
    reservation = await reserved(call, admission)
    await unstopped(call, reservation, admission)
    outcome: Outcome = CUT
    try:
        with passage.stages.stage("upstream"):
            counted = await at.models.count(reservation, passage.deadline_ns)
        outcome = Succeeded(result=_result(counted))
    except UpstreamError as error:
        outcome = Failed(failure=failure(error.fault))
        raise refused(call, error) from error
    finally:
        await at.effects.start(call.settle(reservation, outcome))
    return counted


def _result(counted: TokenCount) -> bytes:
    told = {"input_tokens": counted.tokens, "estimated": counted.estimated, "cached": counted.cached}
    return json.dumps(told).encode()
