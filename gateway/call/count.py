"""A governed count of tokens: who, may they, can they pay, ask the upstream, settle, prove it."""

from gateway.call.failures import CUT, failure, refused
from gateway.call.governed import arrived
from gateway.call.prompted import PromptRequest, prompted, reserved
from gateway.call.stations import Stations
from gateway.terms.asks import CountAsk, Unformed
from gateway.terms.faults import UpstreamError
from gateway.terms.limits import CHAT_LEASE_MS
from gateway.terms.money import Unit
from gateway.terms.operations import Demand, Failed, Outcome, Succeeded
from gateway.terms.passage import Passage


async def count(at: Stations, passage: Passage, request: PromptRequest) -> int:
    """Tokens of a prompt, counted by its upstream, or raise `RefusedError`. It holds one call of every budget."""
    call = await arrived(at, passage, Unformed(what="count_tokens", about=request.model))
    async with call.recorded():
        model, prompt = prompted(call, request)
        call.ask = ask = CountAsk(model=model.name, conversation=prompt.conversation, digest=prompt.digest)
        permit = await call.permit(ask)
        admission = call.admission(permit, Demand(amounts={Unit.CALLS: 1}), CHAT_LEASE_MS)
    reservation = await reserved(call, admission)
    outcome: Outcome = CUT
    try:
        with passage.stages.stage("upstream"):
            tokens = await at.models.count(reservation)
        outcome = Succeeded(result=b'{"input_tokens":%d}' % tokens)
    except UpstreamError as error:
        outcome = Failed(failure=failure(error.fault))
        raise refused(call, error) from error
    finally:
        await at.effects.start(call.settle(reservation, outcome))
    return tokens
