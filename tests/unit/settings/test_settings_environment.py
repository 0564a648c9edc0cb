"""What the environment may say, and what it may not."""

import pytest
from example_file import EXAMPLE, TEXT, VARIABLES, faults

from gateway.settings.environment import config_path
from gateway.settings.reading import read_settings

CLOUD_RUN = {"K_SERVICE": "gateway-service", "GATEWAY_LEDGER_MAY_BE_LOST": "accepted"}


def environment(**variables):
    return read_settings(EXAMPLE, VARIABLES | variables).environment


def test_without_a_word_it_listens_as_a_container_does():
    said = environment()
    assert (said.host, said.port) == ("0.0.0.0", 8080)
    assert said.metadata_host == "metadata.google.internal"
    assert not said.edge_enforced
    assert not said.ledger_may_be_lost
    assert not said.costs_told


def test_an_empty_variable_counts_as_absent():
    names = ("PORT", "GATEWAY_HOST", "GATEWAY_EDGE_IAM", "K_SERVICE", "GATEWAY_LEDGER_MAY_BE_LOST", "GCE_METADATA_HOST")
    assert environment(**dict.fromkeys((*names, "GATEWAY_TIMING"), "")) == environment()


def test_every_variable_is_taken():
    said = environment(PORT="0", GATEWAY_HOST="::1", GCE_METADATA_HOST="127.0.0.1:8081", GATEWAY_TIMING="costs")
    assert said.costs_told
    assert (said.port, said.host, said.metadata_host) == (0, "::1", "127.0.0.1:8081")


def test_the_edge_is_trusted_only_where_it_is_declared_and_on_cloud_run():
    assert environment(**CLOUD_RUN, GATEWAY_EDGE_IAM="required").edge_enforced
    assert not environment(**CLOUD_RUN).edge_enforced


@pytest.mark.parametrize(
    "variables, told",
    [
        ({"PORT": "eighty"}, "PORT: write a port number"),
        ({"PORT": "-1"}, "PORT: write a port number"),
        ({"PORT": "65536"}, "PORT: write a port number"),
        ({"PORT": "8080 "}, "PORT: write a port number"),
        ({"PORT": "٨٠"}, "PORT: write a port number"),
        ({"PORT": "1" * 5_000}, "PORT: write a port number"),
        ({"GATEWAY_HOST": "localhost"}, "GATEWAY_HOST: write an IP address"),
        ({"GATEWAY_HOST": "10.0.0"}, "GATEWAY_HOST: write an IP address"),
        ({"GCE_METADATA_HOST": "http://127.0.0.1"}, "GCE_METADATA_HOST: write HOST or HOST:PORT"),
        ({"GCE_METADATA_HOST": "a@evil.example/"}, "GCE_METADATA_HOST: write HOST or HOST:PORT"),
        ({"GATEWAY_TIMING": "cost"}, "GATEWAY_TIMING: write 'costs'"),
        ({"GATEWAY_EDGE_IAM": "required"}, "GATEWAY_EDGE_IAM: leave it out: this is not Cloud Run"),
        ({"GATEWAY_EDGE_IAM": "yes", **CLOUD_RUN}, "GATEWAY_EDGE_IAM: write 'required'"),
        ({"GATEWAY_EDGE_IAM": "Required", **CLOUD_RUN}, "GATEWAY_EDGE_IAM: write 'required'"),
        ({"GATEWAY_DATABASE_URL": "postgresql://db"}, "GATEWAY_DATABASE_URL: write postgresql://"),
        ({"GATEWAY_DATABASE_URL": "mysql://db/ledger"}, "GATEWAY_DATABASE_URL: write postgresql://"),
        ({"GATEWAY_DATABASE_URL": "postgresql:///ledger"}, "GATEWAY_DATABASE_URL: write postgresql://"),
        ({"GATEWAY_DATABASE_URL": "postgresql://a:b@db:port/ledger"}, "GATEWAY_DATABASE_URL: write postgresql://"),
        ({"GATEWAY_DATABASE_URL": "postgresql://a:b@[::1/ledger"}, "GATEWAY_DATABASE_URL: write postgresql://"),
        ({"GATEWAY_DATABASE_URL": "postgresql://db/ledger\n"}, "GATEWAY_DATABASE_URL: write postgresql://"),
        ({"GATEWAY_LEDGER_MAY_BE_LOST": "yes"}, "GATEWAY_LEDGER_MAY_BE_LOST: write 'accepted' or leave it out"),
        ({**CLOUD_RUN, "GATEWAY_LEDGER_MAY_BE_LOST": "yes"}, "GATEWAY_LEDGER_MAY_BE_LOST: write 'accepted' or leave"),
        ({"K_SERVICE": "gateway-service"}, "GATEWAY_LEDGER_MAY_BE_LOST: this is Cloud Run (K_SERVICE is set), where"),
    ],
)
def test_a_wrong_variable_is_refused_with_its_name(tmp_path, variables, told):
    found = faults(tmp_path, TEXT, **variables)
    assert len(found) == 1
    assert found[0].startswith(told)


def test_the_database_url_is_not_repeated_because_it_may_hold_a_password(tmp_path):
    (found,) = faults(tmp_path, TEXT, GATEWAY_DATABASE_URL="postgresql://me:hunter2@db")
    assert "hunter2" not in found
    said = environment(GATEWAY_DATABASE_URL="postgresql://me:hunter2@db/ledger")
    assert said.database_url == "postgresql://me:hunter2@db/ledger"
    assert "hunter2" not in repr(said)


def test_a_database_outlives_the_instances_of_cloud_run():
    url = "postgresql://me:hunter2@/ledger?host=/cloudsql/acme:us-central1:ledger"
    assert environment(K_SERVICE="gateway-service", GATEWAY_DATABASE_URL=url).database_url == url


def test_without_a_file_there_must_be_a_database(tmp_path):
    text = TEXT.replace('path = "gateway.db"', "")
    assert faults(tmp_path, text) == [
        "ledger.path: is empty: write where the ledger is kept, or set GATEWAY_DATABASE_URL"
    ]


def test_which_file_is_read_when_none_is_named():
    assert config_path({}) == "gateway.toml"
    assert config_path({"GATEWAY_CONFIG": ""}) == "gateway.toml"
    assert config_path({"GATEWAY_CONFIG": "/etc/gateway.toml"}) == "/etc/gateway.toml"
