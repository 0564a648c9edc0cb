import pytest

from agent.settings import SettingsError, read_settings

LEAST = {"GATEWAY_URL": "https://gateway-1.run.app/", "AGENT_MODEL": "flash"}


def test_the_least_that_must_be_said():
    settings = read_settings(LEAST)
    assert settings.gateway_url == "https://gateway-1.run.app/"
    assert settings.audience == "https://gateway-1.run.app"  # audiences are compared exactly: no slash
    assert settings.metadata_host == "metadata.google.internal"
    assert (settings.host, settings.port, settings.turns_max) == ("0.0.0.0", 8080, 8)


def test_everything_that_can_be_said():
    settings = read_settings(
        LEAST
        | {
            "GATEWAY_AUDIENCE": "https://custom.example",
            "AGENT_INSTRUCTION": "Be brief.",
            "GCE_METADATA_HOST": "127.0.0.1:8080",
            "AGENT_HOST": "127.0.0.1",
            "PORT": "0",
            "AGENT_TURNS_MAX": "3",
        }
    )
    assert settings.audience == "https://custom.example"
    assert settings.system_instruction == "Be brief."
    assert settings.metadata_host == "127.0.0.1:8080"
    assert (settings.host, settings.port, settings.turns_max) == ("127.0.0.1", 0, 3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"GATEWAY_URL": ""}, "GATEWAY_URL: write"),
        ({"GATEWAY_URL": "gateway"}, "GATEWAY_URL: .*write it like"),
        ({"GATEWAY_URL": "http://gateway-1.run.app"}, "GATEWAY_URL: .*https only"),
        ({"AGENT_MODEL": ""}, "AGENT_MODEL: name a model"),
        ({"PORT": "70000"}, "PORT: write a number from 0 to 65535"),
        ({"PORT": "-1"}, "PORT: "),
        ({"PORT": "80a"}, "PORT: "),
        ({"PORT": "\u0668\u0660"}, "PORT: "),
        ({"PORT": "9" * 5000}, "PORT: "),
        ({"AGENT_TURNS_MAX": "0"}, "AGENT_TURNS_MAX: write a number from 1"),
        ({"GCE_METADATA_HOST": "http://127.0.0.1"}, "GCE_METADATA_HOST: write HOST or HOST:PORT, without http"),
    ],
)
def test_what_cannot_be_used_is_named(changes, said):
    with pytest.raises(SettingsError, match=said):
        read_settings(LEAST | changes)


@pytest.mark.parametrize("name", ["GATEWAY_URL", "AGENT_MODEL"])
def test_what_is_missing_is_named(name):
    with pytest.raises(SettingsError, match=name):
        read_settings({key: value for key, value in LEAST.items() if key != name})
