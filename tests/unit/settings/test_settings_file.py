"""A configuration file is taken whole or refused with every fault, each with its field's name and what to write."""

import pytest
from example_file import TEXT, changed, faults

from gateway.settings.faults import SettingsError
from gateway.settings.reading import read_file, read_settings

SECOND_BUDGET = '[[budgets]]\nscope = "team:desk"\nunit = "notional_usd"\nwindow = "day"\namount = "50000"\n'
ANALYST = 'email = "sa-analyst@acme-agents.iam.gserviceaccount.com"'
OPERATOR = 'email = "sa-gateway-operator@acme-agents.iam.gserviceaccount.com"'
AUDIENCE = '"https://gateway-service-123456789012.us-central1.run.app"'


def test_the_example_is_accepted(tmp_path):
    assert faults(tmp_path, TEXT) == []


@pytest.mark.parametrize(
    "old, new, told",
    [
        # Shape: unknown, missing, of another type.
        ('tenant = "acme"', 'tenant = "acme"\ntennant = "acme"', "tennant: is not known here: write tenant, identity"),
        ("collar_bps = 500", "collar_bps = 500\ncolar = 1", "limits.desk.colar: is not known here: write quantity_max"),
        ('tenant = "acme"', "", "tenant: is missing: write it"),
        ('project = "acme-agents"', "", "vertex.project: is missing: write it"),
        ('upstream_id = "gemini-3.5-flash"', "", "models.flash.upstream_id: is missing: write it"),
        ('name = "flash"', "", "models#1.name: is missing: write it"),
        ('tenant = "acme"', "tenant = 7", "tenant: write a text in quotes"),
        ('tenant = "acme"', 'tenant = ["acme"]', "tenant: write a text in quotes"),
        ('tenant = "acme"', "tenant = 1979-05-27", "tenant: write a text in quotes"),
        ('amount = "500"', "amount = 500", "budgets#1.amount: write a text in quotes"),
        ("collar_bps = 500", 'collar_bps = "500"', "limits.desk.collar_bps: write a whole number, without quotes"),
        ("short_sales = false", 'short_sales = "yes"', "limits.desk.short_sales: write true or false, without quotes"),
        ("short_sales = false", "short_sales = 1", "limits.desk.short_sales: write true or false, without quotes"),
        ("collar_bps = 500", "collar_bps = true", "limits.desk.collar_bps: write a whole number, without quotes"),
        ("collar_bps = 500", "collar_bps = 500.0", "limits.desk.collar_bps: write a whole number, without quotes"),
        ('models = ["flash", "pro"]', 'models = "flash"', "agents.trader.models: write a list such as"),
        ('models = ["flash", "pro"]', "models = [1]", "agents.trader.models#1: write a text in quotes"),
        ("[identity]", "[[identity]]", "identity: write a table, [identity]"),
        ('unit = "cost_usd"', 'unit = "usd"', "budgets#1.unit: write one of 'tokens', 'cost_usd', 'calls', 'notional"),
        ('window = "month"', 'window = "week"', "budgets#1.window: write one of 'hour', 'day', 'month', 'total'"),
        ('credentials = "metadata"', 'credentials = "key"', "vertex.credentials: write one of 'metadata', 'appli"),
        (
            '["json_schema", "choice"]\n#',
            '["xml"]\n#',
            "models.flash.constraints#1: write one of 'json_schema', 'reg",
        ),
        (
            '"Fast and cheap."',
            '"Fast\\nand cheap."',
            "models.flash.description: write one line of at most 4096 visible",
        ),
        ('"Fast and cheap."', f'"{"x" * 5_000}"', "models.flash.description: write one line of at most 4096 visible"),
        ('path = "gateway.db"', 'path = "a\\u0000b"', "ledger.path: write one line of at most 4096 visible"),
        ('path = "gateway.db"', 'path = ""', "ledger.path: is empty: write where the ledger is kept"),
        ('path = "../policies"', 'path = ""', "policy.path: is empty: write the folder of the rules"),
        (
            'tenant = "acme"',
            'tenant = "acme"\nstreams = {resume_s = 0}',
            "streams.resume_s: 0 will not do: write 1 to 300",
        ),
        (
            'tenant = "acme"',
            'tenant = "acme"\nstreams = {resume_window_kib = 8}',
            "streams.resume_window_kib: 8 will not do: write 64 to",
        ),
        ('tenant = "acme"', 'tenant = "acme"\nstreams = {resumable_max = -1}', "streams.resumable_max: -1 will not do"),
        # Names.
        ('instance = "gateway"', 'instance = "a/b"', "ledger.instance: 'a/b' will not do"),
        ('role = "trader"', 'role = ""', "agents.trader.role: '' will not do"),
        ("sa-analyst@acme", "sa-agent@acme", "agents and operators: the email 'sa-agent@acme-agents.iam.gserv"),
        ("sa-gateway-operator@acme", "sa-agent@acme", "agents and operators: the email 'sa-agent@acme-agents.iam"),
        ('name = "desk-oncall"', 'name = "Bob"', "operators#1.name: 'Bob' will not do"),
        (OPERATOR, "", "operators.desk-oncall.email: is missing: write the service account's address"),
        (ANALYST, "", "agents.analyst.email: is missing: write the service account's address, or its number as subj"),
        (ANALYST, 'email = "Bob"', "agents.analyst.email: 'Bob' will not do: write the service account's address"),
        (ANALYST, 'subject = "12x"', "agents.analyst.subject: '12x' will not do: write the service account's number"),
        ('"place_order", "cancel', '"Place", "cancel', "agents.trader.tools: 'Place' is no tool name: write a-z 0-9 _"),
        ('"place_order", "cancel', '"get_quote", "cancel', "agents.trader.tools: 'get_quote' stands twice: write it"),
        # References to what is not there.
        ('models = ["flash", "pro"]', 'models = ["fast"]', "agents.trader.models: 'fast' is none of [[models]]: write"),
        ('limits = "desk"', 'limits = "floor"', "agents.trader.limits: there is no [limits.floor]: write one of desk"),
        ('scope = "team:desk"', 'scope = "team:floor"', "budgets: nobody is in the scope 'team:floor': write one of"),
        ('scope = "tenant:acme"', 'scope = "tenant:emca"', "budgets: nobody is in the scope 'tenant:emca'"),
        ('scope = "run"', 'scope = "run:1"', "budgets: nobody is in the scope 'run:1'"),
        ("[[budgets]]", SECOND_BUDGET + "[[budgets]]", "budgets: notional_usd in a day of 'team:desk' stands twice"),
        # Amounts.
        ('amount = "500"', 'amount = "-500"', "budgets#1.amount: '-500' will not do: write a plain decimal"),
        ('amount = "500"', 'amount = "+500"', "budgets#1.amount: '+500' will not do: write a plain decimal"),
        ('amount = "500"', 'amount = "5e2"', "budgets#1.amount: '5e2' will not do: write a plain decimal"),
        ('amount = "500"', 'amount = " 500"', "budgets#1.amount: ' 500' will not do: write a plain decimal"),
        ('amount = "500"', 'amount = "0500"', "budgets#1.amount: '0500' will not do: write a plain decimal"),
        ('amount = "500"', 'amount = "5,00"', "budgets#1.amount: '5,00' will not do: write a plain decimal"),
        ('amount = "500"', 'amount = "NaN"', "budgets#1.amount: 'NaN' will not do: write a plain decimal"),
        ('amount = "500"', 'amount = "0.0000001"', "budgets#1.amount: '0.0000001' will not do: at most 6 digits"),
        ('amount = "500"', 'amount = "9223372036855"', "budgets#1.amount: '9223372036855' will not do: too large"),
        ('amount = "2000000"', 'amount = "0.5"', "budgets#3.amount: '0.5' will not do: at most 0 digits"),
        ('quantity_max = "100"', 'quantity_max = "1e2"', "limits.desk.quantity_max: '1e2' will not do: write a plain"),
        ('"0.30"', '"-0.30"', "models.flash.input_usd_per_million: '-0.30' will not do: write a plain decimal"),
        ('"0.30"', '"1000001"', "models.flash.input_usd_per_million: '1000001' will not do: write at most 1000000"),
        ('"0.30"', '""', "models.flash.input_usd_per_million: '' will not do: write a plain decimal"),
        ("= 8192", "= 0", "models.flash.max_output_tokens: 0 will not do: write 1 to 1000000"),
        ("= 8192", f"= {10**30}", "models.flash.max_output_tokens: this will not do: write 1 to 1000000"),
        ("collar_bps = 500", "collar_bps = 10001", "limits.desk.collar_bps: 10001 will not do: write 1 to 10000"),
        (
            "reference_age_ms_max = 5000",
            "reference_age_ms_max = -1",
            "limits.desk.reference_age_ms_max: -1 will not do: write 1 to 3600000",
        ),
        # Limits over time, restrictions, time zones.
        ('"20000"', '"2e4"', "limits.desk.agent_exposure_usd_max: '2e4' will not do: write a plain decimal"),
        ('"200"', '"0.0000000001"', "limits.desk.position_max: '0.0000000001' will not do: at most 9 digits"),
        (
            "_window_ms = 1000",
            "_window_ms = -1",
            "limits.desk.duplicate_window_ms: -1 will not do: write 0 to 86400000",
        ),
        ("minute = 120", "minute = 0", "limits.desk.messages_per_minute: 0 will not do: write 1 to 60000000"),
        ("burst = 30", "burst = 0", "limits.desk.message_burst: 0 will not do: write 1 to"),
        ("reserve = 30", "reserve = 0", "limits.desk.cancel_reserve: 0 will not do: write 1 to"),
        ("repeats_max = 100", "repeats_max = 1001", "limits.desk.repeats_max: 1001 will not do: write 0 to 1000"),
        ("bps = 5000", "bps = 0", "limits.desk.barrier_gamma_bps: 0 will not do: write 1 to 10000"),
        ("bps = 5000", "bps = 10001", "limits.desk.barrier_gamma_bps: 10001 will not do: write 1 to 10000"),
        ('["GME"]', '["gme"]', "limits.desk.restricted: 'gme' will not do: write the ticker symbol in capital letters"),
        ('["GME"]', '["\uff27ME"]', "limits.desk.restricted: '\uff27ME' will not do: write the ticker symbol"),
        ('["GME"]', '["GME", "GME"]', "limits.desk.restricted: 'GME' stands twice: write it once"),
        ('"GOOG", "GOOGL"', '"GOOG "', "firm.restricted: 'GOOG ' will not do: write the ticker symbol"),
        ('"80000"', '"lots"', "firm.exposure_usd_max: 'lots' will not do: write a plain decimal"),
        ("_minute = 300", "_minute = 0", "quotas.refusals_per_minute: 0 will not do: write 1 to"),
        ("_minute = 60\n", "_minute = 0\n", "quotas.dry_runs_per_minute: 0 will not do: write 1 to"),
        ('"America/New_York"', '"New York"', "budgets#2.time_zone: 'New York' will not do: write an IANA name such as"),
        ('"America/New_York"', '"../etc/passwd"', "budgets#2.time_zone: '../etc/passwd' will not do: write an IANA"),
        ('"America/New_York"', '"America"', "budgets#2.time_zone: 'America' will not do: write an IANA name such as"),
        ('"America/New_York"', '""', "budgets#2.time_zone: '' will not do: write an IANA name such as"),
        # Where tokens are for, whose keys count, and where credentials go.
        (AUDIENCE, '"http://gateway.example"', "identity.audience: 'http://gateway.example' will not do: write the"),
        (AUDIENCE, '"https://gateway.example/"', "identity.audience: 'https://gateway.example/' will not do"),
        (AUDIENCE, '"https://gateway.example/a/"', "identity.audience: 'https://gateway.example/a/' will not do"),
        (AUDIENCE, '"https://gateway.example?a=b"', "identity.audience: 'https://gateway.example?a=b' will not do"),
        (AUDIENCE, '"https://user@gateway.example"', "identity.audience: 'https://user@gateway.example' will not do"),
        (AUDIENCE, '""', "identity.audience: '' will not do: write the service's URL"),
        (
            "# certs_url",
            'certs_url = "http://keys.example/certs"\n#',
            "identity.certs_url: 'http://keys.example/certs'",
        ),
        ("# certs_url", 'certs_url = "ftp://127.0.0.1/x"\n#', "identity.certs_url: 'ftp://127.0.0.1/x' will not do"),
        ("# endpoint", 'endpoint = "http://vertex.example"\n#', "vertex.endpoint: 'http://vertex.example' will not do"),
        (
            "# endpoint",
            'endpoint = "https://a.example/b"\n#',
            "vertex.endpoint: 'https://a.example/b' will not do: wri",
        ),
        ('location = "global"', 'location = "evil.example/"', "vertex.location: 'evil.example/' will not do: write a"),
        ('location = "global"', 'location = ""', "vertex.location: '' will not do"),
        (
            'project = "acme-agents"',
            'project = "Acme"',
            "vertex.project: 'Acme' will not do: write the Google Cloud pr",
        ),
        ('"gemini-3.5-pro"', '"../secrets"', "models.pro.upstream_id: '../secrets' will not do: write what its up"),
        ("https://paper-api", "http://paper-api", "venues.alpaca-paper.trading_url: 'http://paper-api.alpaca.markets'"),
        ("https://data.al", "https://me:pw@data.al", "venues.alpaca-paper.data_url: 'https://me:pw@data.alpaca.mark"),
        ("https://data.al", "https://[::1", "venues.alpaca-paper.data_url: 'https://[::1paca.markets' will not do"),
        ("data.alpaca.markets", "data.alpaca.markets:99999", "venues.alpaca-paper.data_url: 'https://data.alpaca.mar"),
        ('feed = "iex"', 'feed = "I E X"', "venues.alpaca-paper.feed: 'I E X' will not do"),
        ('account = "desk"', 'account = "a/b"', "venues.alpaca-paper.account: 'a/b' will not do: write a name of"),
    ],
)
def test_one_fault_is_told_once_with_its_field(tmp_path, old, new, told):
    found = faults(tmp_path, changed(old, new))
    assert [fault for fault in found if fault.startswith(told)] != [], found
    assert len(found) == 1, found


@pytest.mark.parametrize(
    "old, new, told",
    [
        ("[limits.desk]", "[limits]", "limits.quantity_max: write a table, [limits.quantity_max]"),
        ("[limits.desk]", '[limits."De sk"]', "limits.'De sk': 'De sk' will not do: write at most 63 of a-z"),
        ('tenant = "acme"', 'tenant = "Acme Inc"', "tenant: 'Acme Inc' will not do: write at most 63 of a-z 0-9 _ . -"),
        ('team = "desk"', 'team = "the:desk"', "agents.trader.team: 'the:desk' will not do"),
        ('name = "pro"', 'name = "flash"', "models: the name 'flash' stands twice: give each its own"),
        ('name = "analyst"', 'name = "trader"', "agents: the name 'trader' stands twice: give each its own"),
    ],
)
def test_a_fault_that_leaves_others_dangling_is_told_with_them(tmp_path, old, new, told):
    found = faults(tmp_path, changed(old, new))
    assert [fault for fault in found if fault.startswith(told)] != [], found


def test_every_fault_is_told_at_once(tmp_path):
    text = changed('tenant = "acme"', 'tennant = "acme"')
    text = text.replace('amount = "500"', 'amount = "5e2"', 1).replace("collar_bps = 500", 'collar_bps = "5"')
    text = text.replace('location = "global"', 'location = "x/"').replace('name = "analyst"', "name = 3")
    found = faults(tmp_path, text, PORT="none")
    assert sorted(fault.split(" ")[0] for fault in found) == [
        "PORT:",
        "agents#2.name:",
        "budgets#1.amount:",
        "limits.desk.collar_bps:",
        "tenant:",
        "tennant:",
        "vertex.location:",
    ]


def test_a_second_venue_is_refused_because_its_tools_have_the_same_names(tmp_path):
    start, end = TEXT.index("[[venues]]"), TEXT.index("# What an agent with these limits")
    found = faults(tmp_path, TEXT + TEXT[start:end])
    assert found == ["venues: there are 2: write one, this version has no names for the tools of more"]


def test_without_agents_every_call_would_be_refused(tmp_path):
    text = TEXT[: TEXT.index("# A service account that may call")] + "\n"
    assert faults(tmp_path, text) == ["agents: there are none: register at least one, or every call is refused"]


def test_models_need_vertex_and_a_gateway_without_models_does_not(tmp_path):
    start, end = TEXT.index("[vertex]"), TEXT.index("[ledger]")
    without = TEXT[:start] + TEXT[end:]
    assert faults(tmp_path, without) == [
        "vertex: is missing: write [vertex], because models are configured that it serves"
    ]
    start, end = without.index("[[models]]"), without.index("# An account at an exchange")
    without = (without[:start] + without[end:]).replace('["flash", "pro"]', "[]").replace('["flash"]', "[]")
    assert faults(tmp_path, without) == []


def test_tools_need_a_venue(tmp_path):
    start, end = TEXT.index("[[venues]]"), TEXT.index("# What an agent with these limits")
    assert faults(tmp_path, TEXT[:start] + TEXT[end:]) == [
        "agents.trader.tools: no tool is offered, because there are no [[venues]]",
        "agents.analyst.tools: no tool is offered, because there are no [[venues]]",
    ]


@pytest.mark.parametrize(
    "text, told",
    [
        (b"", "tenant: is missing: write it"),
        (b"\xff\xfe", "it is not UTF-8 at byte 0"),
        (b"tenant", "it is not TOML: Expected '=' after a key in a key/value pair (at end of document)"),
        (b'tenant = "a"\ntenant = "b"', "it is not TOML: Cannot overwrite a value (at end of document)"),
        (b"tenant = \x1b[31m", "it is not TOML: "),
        (b"a = " + b"[" * 5_000, "it is nested too deep"),
        (b"tenant = " + b"1" * 5_000, "it is not TOML: "),
        (b"#" * (1024 * 1024 + 1), "it is longer than 1048576 bytes: this is no configuration"),
    ],
)
def test_what_is_no_configuration_is_refused_in_a_sentence(tmp_path, text, told):
    assert faults(tmp_path, text)[0].startswith(told)


def test_names_in_the_file_cannot_steer_a_terminal(tmp_path):
    found = faults(tmp_path, '"\\u001b[31m\\u202e" = 1\n' + TEXT)
    assert len(found) == 1
    assert found[0].startswith("'\\x1b[31m\\u202e': is not known here: write tenant, identity")


def test_a_thousand_faults_stay_readable(tmp_path):
    text = "\n".join(f"unknown{number} = 1" for number in range(1_000)) + "\n" + TEXT
    path = tmp_path / "gateway.toml"
    assert len(faults(tmp_path, text)) == 1_000
    with pytest.raises(SettingsError) as refused:
        read_file(path)
    assert len(str(refused.value).splitlines()) == 102
    assert str(refused.value).endswith("and 900 more")


@pytest.mark.parametrize(
    "make, told",
    [
        (lambda path: None, "it cannot be read: No such file or directory"),
        (lambda path: path.mkdir(), "it cannot be read: Is a directory"),
        (lambda path: path.symlink_to(path), "it cannot be read: Too many levels of symbolic links"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path, make, told):
    path = tmp_path / "gateway.toml"
    make(path)
    with pytest.raises(SettingsError) as refused:
        read_settings(path, {})
    assert refused.value.faults[0] == told


def test_where_cloud_run_ends_tls_a_certificate_of_its_own_is_refused(tmp_path):
    text = TEXT + '\n[tls]\ncertificate = "chain.pem"\nkey = "key.pem"\n'
    assert faults(tmp_path, text) == []
    there = {"K_SERVICE": "gateway-service", "GATEWAY_LEDGER_MAY_BE_LOST": "accepted"}
    (told,) = faults(tmp_path, text, **there)
    assert told.startswith("tls: leave it out: Cloud Run ends TLS itself")
