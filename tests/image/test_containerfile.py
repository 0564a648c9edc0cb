"""What the Containerfile promises, read from its text: no tools are needed, so this always runs."""

import re
from pathlib import Path

from bench.cold import AS_IN_THE_IMAGE

ROOT = Path(__file__).resolve().parents[2]
TEXT = re.sub(r"^\s*#.*\n", "", (ROOT / "Containerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
STEPS = [line.split(maxsplit=1) for line in TEXT.splitlines() if line.strip()]
LAST_FROM = max(place for place, (word, _) in enumerate(STEPS) if word == "FROM")
BUILDING, IMAGE = STEPS[:LAST_FROM], STEPS[LAST_FROM + 1 :]


def the_only(word):
    found = [rest for step, rest in IMAGE if step == word]
    assert len(found) == 1, word
    return found[0]


def test_the_base_is_an_argument_that_a_digest_can_pin_and_is_named_in_the_image():
    assert STEPS[0] == ["ARG", "BASE=docker.io/library/python:3.11-slim"]
    assert [rest for step, rest in STEPS if step == "FROM"] == ["${BASE} AS build", "scratch"]
    assert 'org.opencontainers.image.base.name="${BASE}"' in the_only("LABEL")


def test_what_is_installed_is_locked_by_hash_and_the_project_brings_nothing_along():
    installs = [part for step, rest in BUILDING if step == "RUN" for part in rest.split("&&") if "pip install" in part]
    assert len(installs) == 3
    for install in installs:
        assert "--require-hashes" in install or "--no-deps --no-index" in install
    assert all("curl" not in rest and "wget" not in rest for _, rest in STEPS)
    assert "ADD" not in {step for step, _ in STEPS}


def test_the_image_runs_nothing_when_it_is_made_and_has_no_shell_form():
    assert "RUN" not in {step for step, _ in IMAGE}
    assert the_only("ENTRYPOINT") == '["/app/bin/python", "-m"]'
    assert the_only("CMD") == '["gateway", "serve"]'


def test_it_runs_as_a_user_without_rights_and_by_number():
    assert re.fullmatch(r"[1-9][0-9]+:[1-9][0-9]+", the_only("USER"))


def test_the_cold_start_is_measured_with_the_environment_of_the_image():
    given = dict(pair.split("=", 1) for pair in the_only("ENV").split())
    assert AS_IN_THE_IMAGE.items() <= given.items()


def test_only_named_parts_go_to_the_builder():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    copied = {
        source.rstrip("/")
        for step, rest in BUILDING
        if step == "COPY"
        for source in rest.split()[:-1]
        if not source.startswith("--")
    }
    assert all(any(source == part or source.startswith(part + "/") for part in allowed) for source in copied)
    assert allowed.isdisjoint({"tests", "localcloud", "bench", ".git"})
