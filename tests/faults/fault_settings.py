"""The configuration of the gateway that is killed, and of the outside world that it is killed in."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from localcloud.demo.town import UNHURRIED
from policies import folder as shipped_policies

AUDIENCE: Final = "https://gateway-service-123456789012.us-central1.run.app"
GATEWAY_EMAIL: Final = "sa-gateway@local-project.iam.gserviceaccount.com"
AGENT_EMAIL: Final = "sa-agent@local-project.iam.gserviceaccount.com"
TENANT: Final = "faults"
BUDGET_USD: Final = 45_000
"""So tight that at the end of a long season orders are refused: a hold that is lost or doubled would show."""

_FILE: Final = """\
tenant = "{tenant}"

[identity]
audience = "{audience}"
certs_url = "{certs_url}"

[ledger]
path = "{ledger}"
instance = "gateway"

[policy]
path = "{policies}"

[[venues]]
name = "paper"
trading_url = "{venue_url}"
data_url = "{venue_url}"
account = "desk"
key_id = "env:EXCHANGE_KEY_ID"
secret_key = "env:EXCHANGE_SECRET_KEY"
order_key = "env:EXCHANGE_ORDER_KEY"
{venue}

[limits.desk]
quantity_max = "100"
notional_usd_max = "10000"
collar_bps = 500
reference_age_ms_max = 5000
exposure_usd_max = "1000000"
duplicate_window_ms = 0
messages_per_minute = 60000000
message_burst = 60000000
repeats_max = 0
barrier_gamma_bps = 10000

[[agents]]
name = "trader"
email = "{agent}"
team = "desk"
role = "trader"
tools = ["place_order", "cancel_order", "get_order"]
limits = "desk"

[[budgets]]
scope = "team:desk"
unit = "notional_usd"
window = "total"
amount = "{budget}"

[[budgets]]
scope = "agent:trader"
unit = "calls"
window = "total"
amount = "1000000"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a configuration file is written from."""

    folder: Path
    certs_url: str
    venue_url: str
    venue: str = ""
    """Further lines of the venue's table."""

    @property
    def ledger(self) -> Path:
        """The SQLite ledger."""
        return self.folder / "gateway.db"

    def write(self) -> Path:
        """Write the file."""
        path = self.folder / "gateway.toml"
        path.write_text(
            _FILE.format(
                tenant=TENANT,
                audience=AUDIENCE,
                certs_url=self.certs_url,
                ledger=self.ledger,
                policies=shipped_policies(),
                venue_url=self.venue_url,
                venue=self.venue,
                limits="\n".join(UNHURRIED),
                agent=AGENT_EMAIL,
                budget=BUDGET_USD,
            )
        )
        return path
