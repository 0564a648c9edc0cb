"""The gateway's contract as a service table: the methods of its protos, bound to the services that answer them."""

from gateway.services.models import ModelService
from gateway.services.operators import OperatorService
from gateway.services.tools import ToolService
from gateway.wire.table import Table, bind
from generated.agentic.gateway.v1.services import METHODS


def contract(models: ModelService, tools: ToolService, operators: OperatorService) -> Table:
    """Every method of `agentic.gateway.v1`, path by path."""
    return bind(METHODS, models).joined(bind(METHODS, tools)).joined(bind(METHODS, operators))
