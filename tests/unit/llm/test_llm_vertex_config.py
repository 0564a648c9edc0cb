"""Where Vertex AI is: Google's own hosts, or one that may be given the gateway's token."""

import pytest

from gateway.llm.vertex import VertexConfig, VertexConfigError


@pytest.mark.parametrize(
    "location, base",
    [
        ("global", "https://aiplatform.googleapis.com"),
        ("eu", "https://aiplatform.eu.rep.googleapis.com"),
        ("europe-west1", "https://europe-west1-aiplatform.googleapis.com"),
    ],
)
def test_the_hosts_of_google(location, base):
    assert VertexConfig(project="p", location=location).base == base


@pytest.mark.parametrize("endpoint", ["https://vertex.example", "https://vertex.example/", "http://127.0.0.1:8000"])
def test_an_endpoint_of_its_own(endpoint):
    config = VertexConfig(project="example.com:p", location="global", endpoint=endpoint)
    assert config.url("google", "a/../b", "countTokens") == (
        endpoint.rstrip("/")
        + "/v1/projects/example.com%3Ap/locations/global/publishers/google/models/a%2F..%2Fb:countTokens"
    )


@pytest.mark.parametrize(
    "wrong, named",
    [
        ({"project": ""}, "project"),
        ({"project": "p/q"}, "project"),
        ({"location": ""}, "location"),
        ({"location": "evil.example/"}, "location"),
        ({"location": "x\n"}, "location"),
        ({"endpoint": "http://vertex.example"}, "loopback only"),
        ({"endpoint": "http://127.0.0.1.evil.example"}, "loopback only"),
        ({"endpoint": "http://127.0.0.1@evil.example"}, "loopback only"),
        ({"endpoint": "https://user:word@vertex.example"}, "endpoint"),
        ({"endpoint": "https://vertex.example?x=1"}, "endpoint"),
        ({"endpoint": "https://"}, "endpoint"),
        ({"endpoint": "vertex.example"}, "endpoint"),
        ({"idle_s": 0}, "seconds"),
        ({"idle_s": 10, "total_s": 5}, "seconds"),
        ({"tail_s": 0}, "seconds"),
    ],
)
def test_what_cannot_be_used_is_refused_at_the_start(wrong, named):
    with pytest.raises(VertexConfigError, match=named):
        VertexConfig(**({"project": "p", "location": "global"} | wrong))
