"""The configuration file: its tables, and what each of them may say.

Every table checks itself in `faults`, `File` also what its tables say about each other. `docs/gateway.example.toml`
explains them to operators.
"""

from collections.abc import Iterator
from typing import Final, Literal

from gateway.identity.token import EMAIL, SUBJECT
from gateway.settings import forms
from gateway.settings.ccxt_tables import CcxtVenueTable
from gateway.settings.forms import amount_faults, origin_faults, range_faults, shown, twice_faults, zone_faults
from gateway.settings.limit_tables import FirmTable, LimitTable, QuotaTable
from gateway.settings.model_tables import ModelTable
from gateway.settings.serving import serving_faults
from gateway.settings.table import Table
from gateway.settings.tool_tables import HttpServiceTable, HttpToolTable, McpServerTable, McpToolTable, network_faults
from gateway.settings.upstream_tables import UpstreamTable, VertexTable
from gateway.terms.ids import TOOL_NAME
from gateway.terms.money import MICRO

GOOGLE_CERTS: Final = "https://www.googleapis.com/oauth2/v3/certs"

ACCEPTANCE_S_MAX: Final = 86_400
RESUME_S_MAX: Final = 300
RESUME_KIB_MIN: Final = 64
"""How far a stream may be ahead of its reader."""
RESUME_KIB_MAX: Final = 16_384
RESUMABLE_MAX: Final = 1_000
"""As many as an instance runs calls."""

VENUES_MAX: Final = 1
"""Every venue offers tools of the same names, so a second one could not be told apart by agents."""

BUDGET_SCALES: Final = {"tokens": 1, "calls": 1, "cost_usd": MICRO, "notional_usd": MICRO}


class IdentityTable(Table, frozen=True, kw_only=True):
    """`[identity]`: what an agent's ID token must say, and whose keys sign it."""

    audience: str
    certs_url: str = GOOGLE_CERTS

    def faults(self) -> Iterator[str]:
        """See `Table`."""
        yield from forms.AUDIENCE.faults("audience", self.audience)
        yield from origin_faults("certs_url", self.certs_url, path=True)


class VenueTable(Table, frozen=True, kw_only=True):
    """`[[venues]]`: an account at an exchange that speaks Alpaca's wire format. The last three refer to secrets."""

    name: str
    trading_url: str
    data_url: str
    feed: str = ""
    account: str
    key_id: str
    secret_key: str
    order_key: str
    """Makes client order ids; must never change while orders may be asked for again."""
    acceptance_s: int = 30
    networks: list[str] = []

    def faults(self) -> Iterator[str]:
        """See `Table`."""
        yield from forms.VENUE.faults("name", self.name)
        yield from origin_faults("trading_url", self.trading_url)
        yield from origin_faults("data_url", self.data_url)
        if self.feed:
            yield from forms.VENUE.faults("feed", self.feed)
        yield from forms.ACCOUNT.faults("account", self.account)
        yield from range_faults("acceptance_s", self.acceptance_s, 1, ACCEPTANCE_S_MAX)
        yield from network_faults(self.networks)


class BudgetTable(Table, frozen=True, kw_only=True):
    """`[[budgets]]`: at most so much of a unit in a window, for everything in a scope."""

    scope: str
    unit: Literal["tokens", "cost_usd", "calls", "notional_usd"]
    window: Literal["hour", "day", "month", "total"]
    amount: str
    time_zone: str = "UTC"

    def faults(self) -> Iterator[str]:
        """See `Table`."""
        yield from amount_faults("amount", self.amount, BUDGET_SCALES[self.unit])
        yield from zone_faults("time_zone", self.time_zone)


class AgentTable(Table, frozen=True, kw_only=True):
    """`[[agents]]`: a service account that may call, and everything that counts about it."""

    name: str
    email: str = ""
    subject: str = ""
    team: str
    role: str
    models: list[str] = []
    tools: list[str] = []
    limits: str = ""

    def faults(self) -> Iterator[str]:
        """See `Table`."""
        for field in ("name", "team", "role"):
            yield from forms.NAME.faults(field, getattr(self, field))
        yield from account_faults(self.email, self.subject)
        for tool in self.tools:
            if not TOOL_NAME.fullmatch(tool):
                yield f"tools: {shown(tool)} is no tool name: write a-z 0-9 _"
        yield from twice_faults("models", self.models)
        yield from twice_faults("tools", self.tools)


class OperatorTable(Table, frozen=True, kw_only=True):
    """`[[operators]]`: an account that may stop the gateway and look into it, and never acts as an agent."""

    name: str
    email: str = ""
    subject: str = ""

    def faults(self) -> Iterator[str]:
        """See `Table`."""
        yield from forms.NAME.faults("name", self.name)
        yield from account_faults(self.email, self.subject)


class LedgerTable(Table, frozen=True, kw_only=True):
    """`[ledger]`: the file that holds keys, budgets and the record unless a database does, and whose record it is."""

    path: str = ""
    """Not needed where a database is the ledger."""
    instance: str = "gateway"

    def faults(self) -> Iterator[str]:
        """See `Table`."""
        yield from forms.NAME.faults("instance", self.instance)


class PolicyTable(Table, frozen=True, kw_only=True):
    """`[policy]`: the folder of the rules."""

    path: str

    def faults(self) -> Iterator[str]:
        """See `Table`."""
        if not self.path:
            yield "path: is empty: write the folder of the rules"


class WebTable(Table, frozen=True, kw_only=True):
    """`[web]`: what browsers may do."""

    origins: list[str] = []

    def faults(self) -> Iterator[str]:
        """See `Table`."""
        for origin in self.origins:
            yield from forms.ORIGIN.faults("origins", origin)
        yield from twice_faults("origins", self.origins)


class StreamsTable(Table, frozen=True, kw_only=True):
    """`[streams]`: what is kept of model streams for callers whose connection broke."""

    resume_s: int = 15
    resume_window_kib: int = 256
    resumable_max: int = 256

    def faults(self) -> Iterator[str]:
        """See `Table`."""
        yield from range_faults("resume_s", self.resume_s, 1, RESUME_S_MAX)
        yield from range_faults("resume_window_kib", self.resume_window_kib, RESUME_KIB_MIN, RESUME_KIB_MAX)
        yield from range_faults("resumable_max", self.resumable_max, 0, RESUMABLE_MAX)


class TlsTable(Table, frozen=True, kw_only=True):
    """`[tls]`: the port's own certificate, where nothing before it ends TLS."""

    certificate: str
    key: str


class File(Table, frozen=True, kw_only=True):
    """The configuration file."""

    tenant: str
    identity: IdentityTable
    vertex: VertexTable | None = None
    ledger: LedgerTable
    policy: PolicyTable
    upstreams: list[UpstreamTable] = []
    models: list[ModelTable] = []
    venues: list[VenueTable] = []
    ccxt_venues: list[CcxtVenueTable] = []
    http_services: list[HttpServiceTable] = []
    mcp_servers: list[McpServerTable] = []
    agents: list[AgentTable] = []
    operators: list[OperatorTable] = []
    budgets: list[BudgetTable] = []
    limits: dict[str, LimitTable] = {}
    firm: FirmTable = FirmTable()
    quotas: QuotaTable = QuotaTable()
    web: WebTable = WebTable()
    tls: TlsTable | None = None
    streams: StreamsTable = StreamsTable()

    def faults(self) -> Iterator[str]:
        """What its tables say against each other. Their own faults are not repeated."""
        yield from forms.NAME.faults("tenant", self.tenant)
        yield from serving_faults(self.models, self.upstreams, self.vertex)
        venues = len(self.venues) + len(self.ccxt_venues)
        if venues > VENUES_MAX:
            place = "venues and ccxt_venues" if self.ccxt_venues else "venues"
            yield f"{place}: there are {venues}: write one, this version has no names for the tools of more"
        if not self.agents:
            yield "agents: there are none: register at least one, or every call is refused"
        yield from self._doubled()
        yield from self._dangling()
        yield from self._budget_faults()

    def _doubled(self) -> Iterator[str]:
        # Who trades must not hold the switch that stops it: an account is one agent or one operator.
        accounts: tuple[AgentTable | OperatorTable, ...] = (*self.agents, *self.operators)
        named: tuple[tuple[str, list[str]], ...] = (
            ("upstreams: the name", [upstream.name for upstream in self.upstreams]),
            ("models: the name", [model.name for model in self.models]),
            (
                "http_services and mcp_servers: the name",
                [table.name for table in self.http_services] + [table.name for table in self.mcp_servers],
            ),
            ("tools: the name and version", [f"{tool.name} {tool.version}" for tool in self._tools()]),
            ("agents: the name", [agent.name for agent in self.agents]),
            ("operators: the name", [operator.name for operator in self.operators]),
            ("agents and operators: the email", [one.email for one in accounts if one.email]),
            ("agents and operators: the subject", [one.subject for one in accounts if one.subject]),
        )
        for what, values in named:
            for value in sorted({value for value in values if values.count(value) > 1}):
                yield f"{what} {shown(value)} stands twice: give each its own"

    def _services(self) -> tuple[HttpServiceTable | McpServerTable, ...]:
        return (*self.http_services, *self.mcp_servers)

    def _tools(self) -> Iterator[HttpToolTable | McpToolTable]:
        for service in self._services():
            yield from service.tools

    def _dangling(self) -> Iterator[str]:
        models = {model.name for model in self.models}
        for agent in self.agents:
            for name in agent.models:
                if name not in models:
                    yield f"agents.{agent.name}.models: {shown(name)} is none of [[models]]: {_known(models)}"
            if agent.tools and not (self.venues or self.ccxt_venues or self.http_services or self.mcp_servers):
                yield f"agents.{agent.name}.tools: no tool is offered, because there are no [[venues]]"
            if agent.limits and agent.limits not in self.limits:
                yield f"agents.{agent.name}.limits: there is no [limits.{agent.limits}]: {_known(set(self.limits))}"

    def _budget_faults(self) -> Iterator[str]:
        scopes = {f"tenant:{self.tenant}", "run"}
        for agent in self.agents:
            scopes |= {f"team:{agent.team}", f"agent:{agent.name}"}
        places = [(table.scope, table.unit, table.window) for table in self.budgets]
        for scope in sorted({scope for scope, _, _ in places} - scopes):
            yield f"budgets: nobody is in the scope {shown(scope)}: {_known(scopes)}"
        for scope, unit, window in sorted({place for place in places if places.count(place) > 1}):
            yield f"budgets: {unit} in a {window} of {shown(scope)} stands twice: write one amount"


def account_faults(email: str, subject: str) -> Iterator[str]:
    """What is wrong with how an account is named: by its address, by its number, or by both."""
    if not email and not subject:
        yield "email: is missing: write the service account's address, or its number as subject"
    if email and not EMAIL.fullmatch(email):
        yield f"email: {shown(email)} will not do: write the service account's address as Google shows it"
    if subject and not SUBJECT.fullmatch(subject):
        yield f"subject: {shown(subject)} will not do: write the service account's number, digits only"


def _known(names: set[str]) -> str:
    return f"write one of {', '.join(sorted(names))}" if names else "there are none"
