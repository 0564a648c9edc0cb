"""Where models are served and what they are given: every table says what is wrong with it, and they with each other."""

import pytest
from example_file import TEXT, changed, faults

LLAMA = """
[[upstreams]]
name = "llama"
kind = "openai"
url = "https://llama.example.com/v1"
dialect = "vllm"
api_key = "env:LLAMA_KEY"
"""
CLAUDE = """
[[upstreams]]
name = "claude-europe"
kind = "claude"
location = "europe-west1"
"""
KEY = {"LLAMA_KEY": "sk-very-secret"}


CACHE = '[[models.caches]]\nname = "handbook"\nid = "123"\ntokens_max = 10\n'


def with_upstreams(tables, upstream="vertex", more="", targets=""):
    """The example with more upstreams, and a model more that one of them serves."""
    return f"""{TEXT}
{tables}
[[models]]
name = "third"
upstream = "{upstream}"
upstream_id = "some/model:7b"
max_output_tokens = 100
input_usd_per_million = "1"
output_usd_per_million = "1"
{more}
{targets}
"""


def test_what_the_comments_of_the_example_show_is_accepted(tmp_path):
    begun, _, rest = TEXT.partition('# [[upstreams]]\n# name = "claude-europe"')
    shown, _, after = rest.partition("\n\n[ledger]")
    lines = f'[[upstreams]]\n# name = "claude-europe"{shown}'.splitlines()
    tables = "\n".join(line.removeprefix("# ") for line in lines)
    assert tables.count("[[upstreams]]") == 2
    assert 'api_key = "env:LLAMA_KEY"' in tables
    assert faults(tmp_path, f"{begun}\n{tables}\n\n[ledger]{after}", **KEY) == []


@pytest.mark.parametrize(
    "tables, upstream, more",
    [
        (LLAMA, "llama", ""),
        (CLAUDE, "claude-europe", ""),
        ("", "claude", 'constraints = ["json_schema"]'),
        (LLAMA, "llama", 'constraints = ["json_schema", "regex", "choice"]'),
        ('[[upstreams]]\nname = "open"\nkind = "openai"\ndialect = "garden"\nlocation = "us-central1"\n', "open", ""),
    ],
)
def test_upstreams_of_every_kind(tmp_path, tables, upstream, more):
    assert faults(tmp_path, with_upstreams(tables, upstream, more), **KEY) == []


@pytest.mark.parametrize(
    "tables, old, new, told",
    [
        (LLAMA, '"llama"', '"vertex"', "upstreams.vertex.name: vertex is what [vertex] serves: write another name"),
        (LLAMA, '"openai"', '"azure"', "upstreams.llama.kind: write one of 'vertex', 'claude', 'openai'"),
        (LLAMA, '"vllm"', '"sglang"', "upstreams.llama.dialect: write one of 'openai', 'vllm', 'ollama', 'garden'"),
        (LLAMA, "https://llama", "http://llama", "upstreams.llama.url: 'http://llama.example.com/v1' will not do"),
        (
            LLAMA,
            "https://llama",
            "https://me@llama",
            "upstreams.llama.url: 'https://me@llama.example.com/v1' will not do",
        ),
        (LLAMA, "/v1", "/v1?key=x", "upstreams.llama.url: 'https://llama.example.com/v1?key=x' will not do"),
        (LLAMA, 'url = "https://llama.example.com/v1"\n', "", "upstreams.llama.url: is missing: write where it is"),
        (
            LLAMA,
            'kind = "openai"',
            'kind = "openai"\nlocation = "us-central1"',
            "upstreams.llama.location: says nothing",
        ),
        (LLAMA, "env:LLAMA_KEY", "env:NOT_SET", "upstreams.llama.api_key: set the environment variable NOT_SET"),
        (LLAMA, "env:LLAMA_KEY", "sk-secret", "upstreams.llama.api_key: write env:NAME or file:PATH"),
        (LLAMA, '"vllm"', '"garden"', "upstreams.llama.url: says nothing here: leave it out"),
        (CLAUDE, '"europe-west1"', '"evil.example/"', "upstreams.claude-europe.location: 'evil.example/' will not do"),
        (
            CLAUDE,
            'kind = "claude"',
            'kind = "claude"\ndialect = "vllm"',
            "upstreams.claude-europe.dialect: says nothing",
        ),
        (
            CLAUDE,
            'kind = "claude"',
            'kind = "claude"\nproject = "No"',
            "upstreams.claude-europe.project: 'No' will not",
        ),
    ],
)
def test_a_fault_of_an_upstream(tmp_path, tables, old, new, told):
    assert old in tables
    found = faults(tmp_path, TEXT + tables.replace(old, new), **KEY)
    assert found[0].startswith(told), found


def timed(**seconds):
    """The fields of a table."""
    return "".join(f"\n{field} = {value}" for field, value in seconds.items())


@pytest.mark.parametrize(
    "vertex, llama, claude, told",
    [
        ({"total_s": 0}, {}, {}, "vertex.total_s: 0 will not do: write 1 to 3300"),
        ({"total_s": 3_301}, {}, {}, "vertex.total_s: 3301 will not do: write 1 to 3300"),
        ({"idle_s": 61, "total_s": 60}, {}, {}, "vertex.idle_s: 61 will not do: write 1 to 60"),
        ({}, {"idle_s": 0}, {}, "upstreams.llama.idle_s: 0 will not do: write 1 to 3300"),
        ({}, {"idle_s": "1.5"}, {}, "upstreams.llama.idle_s: "),
        ({}, {}, {"idle_s": 31, "total_s": 30}, "upstreams.claude-europe.idle_s: 31 will not do: write 1 to 30"),
        (
            {"total_s": 60},
            {},
            {"idle_s": 61},
            "upstreams.claude-europe.idle_s: 61 is more than the 60 of [vertex] total_s: write less, or a total_s",
        ),
        ({"total_s": 60}, {"idle_s": 61}, {"idle_s": 60}, None),
        ({"total_s": 60}, {"total_s": 30}, {"total_s": 3_300, "idle_s": 3_300}, None),
    ],
)
def test_how_long_an_upstream_is_waited_for_is_bounded(tmp_path, vertex, llama, claude, told):
    text = TEXT.replace("idle_s = 120\ntotal_s = 3300\n", timed(**vertex) + "\n", 1)
    assert text != TEXT
    found = faults(tmp_path, text + LLAMA + timed(**llama) + CLAUDE + timed(**claude), **KEY)
    assert [fault[: len(told)] for fault in found] == [told] if told else found == [], found


@pytest.mark.parametrize(
    "tables, upstream, more, told",
    [
        ("", "lama", "", "models.third.upstream: 'lama' is not known: write one of claude, vertex"),
        (LLAMA + LLAMA, "llama", "", "upstreams: the name 'llama' stands twice"),
        ("", "vertex", 'constraints = ["regex"]', "models.third.constraints: no upstream of it enforces regex"),
        ("", "claude", 'constraints = ["choice"]', "models.third.constraints: no upstream of it enforces choice"),
        (
            "",
            "vertex",
            'constraints = ["choice"]\nverified_constraints = ["choice"]',
            "models.third.constraints: 'choice' stands twice",
        ),
        (
            LLAMA,
            "llama",
            '[[models.targets]]\nname = "here"\nlocation = "us-central1"',
            "models.third.targets.here.location: says nothing for llama",
        ),
        (
            "",
            "claude",
            '[[models.targets]]\nname = "here"\nthroughput = "dedicated"',
            "models.third.targets.here.throughput: only Gemini's upstreams",
        ),
        (
            "",
            "vertex",
            '[[models.targets]]\nname = "there"\nupstream = "gone"',
            "models.third.targets.there.upstream: 'gone' is not known",
        ),
        (
            "",
            "vertex",
            CACHE + '[[models.targets]]\nname = "there"\nlocation = "europe-west1"',
            "models.third.caches: belong to the model's own upstream, upstream_id and location, and no Gemini is",
        ),
        (
            "",
            "vertex",
            CACHE + '[[models.targets]]\nname = "there"\nupstream_id = "gemini-x"',
            "models.third.caches: belong to the model's own upstream, upstream_id and location, and no Gemini is",
        ),
        ("", "claude", CACHE, "models.third.caches: belong to the model's own upstream, upstream_id and location"),
        (
            "",
            "vertex",
            '[[models.targets]]\nname = "there"\nupstream = "claude"\n' + CACHE.replace("caches", "targets.caches"),
            "models.third.targets.there.caches: only Gemini's upstreams keep some: leave them out",
        ),
        (
            "",
            "vertex",
            '[[models.targets]]\nname = "there"\n' + 2 * CACHE.replace("caches", "targets.caches"),
            "models.third.targets.there.caches: the name: 'handbook' stands twice",
        ),
    ],
)
def test_a_fault_between_models_and_upstreams(tmp_path, tables, upstream, more, told):
    found = faults(tmp_path, with_upstreams(tables, upstream, more), **KEY)
    assert [fault for fault in found if fault.startswith(told)] != [], found


def test_a_server_of_ones_own_needs_no_google(tmp_path):
    text = with_upstreams(LLAMA, "llama")
    without = text[: text.index("[vertex]")] + text[text.index("[ledger]") :]
    assert "vertex: is missing" in faults(tmp_path, without, **KEY)[0]
    begun, _, rest = without.partition("[[models]]")
    alone = begun + rest[rest.index("[[venues]]") :]
    alone = alone.replace('["flash", "pro"]', '["third"]').replace('["flash"]', '["third"]')
    assert faults(tmp_path, alone, **KEY) == []


@pytest.mark.parametrize(
    "old, new, told",
    [
        (
            '"gs://acme-agent-inputs/"',
            '"gs://acme-agent-inputs"',
            "models.flash.file_prefixes: 'gs://acme-agent-inputs'",
        ),
        (
            '"gs://acme-agent-inputs/"',
            '"http://a.example/"',
            "models.flash.file_prefixes: 'http://a.example/' will not",
        ),
        ('"gs://acme-agent-inputs/"', '"gs://a/../"', "models.flash.file_prefixes: 'gs://a/../' will not do"),
        ('"image/png"', '"image/svg+xml"', "models.flash.media#1.mime_type: 'image/svg+xml' will not do"),
        ('"image/png"', '"application/pdf"', "models.flash.media: the type: 'application/pdf' stands twice"),
        ("tokens_max = 1120", "tokens_max = 0", "models.flash.media#1.tokens_max: 0 will not do: write 1 to 10000000"),
        ('id = "1234567890"', 'id = "../1"', "models.flash.caches.handbook.id: '../1' will not do"),
        ('"block_only_high"', '"block_nothing"', "models.flash.safety#1.threshold: write one of 'block_low_and_above'"),
        ('"dangerous_content"', '"war"', "models.flash.safety#1.category: write one of 'hate_speech'"),
        (
            'thinking = "level"',
            'thinking = "deep"',
            "models.flash.thinking: write one of '', 'level', 'budget', 'none'",
        ),
        (
            'verified_constraints = ["regex"]',
            'verified_constraints = ["xml"]',
            "models.flash.verified_constraints#1: write",
        ),
    ],
)
def test_a_fault_of_what_a_model_is_given(tmp_path, old, new, told):
    found = faults(tmp_path, changed(old, new))
    assert found[0].startswith(told), found
