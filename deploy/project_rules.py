"""What must not be deployed, seen in the project: who may call, who runs as whom, which secrets are there."""

from collections.abc import Iterator, Mapping, Sequence

from deploy.faults import CommandError
from deploy.manifest import Manifest
from deploy.manifest_rules import INVOKER_CHECK_OFF, Finding
from deploy.place import AGENT_ACCOUNT, GATEWAY_ACCOUNT, INVOKER, PUBLIC, SERVICE, Place
from deploy.shell import Shell


def project_findings(shell: Shell, place: Place, manifest: Manifest) -> Iterator[Finding]:
    """Everything that gcloud's answers say against a deployment. Raises CommandError where they cannot be had."""
    yield from _service_findings(shell, place)
    yield from _account_findings(shell, place)
    yield from _grant_findings(shell, place)
    for secret in manifest.secrets:
        command = place.gcloud("secrets", "versions", "describe", secret.version, f"--secret={secret.name}")
        try:
            answer = shell.ask(command, {"state": "ENABLED"})
        except CommandError as error:
            if not error.not_found:
                raise
            yield Finding(
                sentence=f"secret {secret.name}: version {secret.version} is not there: add it with "
                f"gcloud secrets versions add {secret.name} --data-file=-"
            )
        else:
            if _object(answer).get("state") != "ENABLED":
                yield Finding(sentence=f"secret {secret.name}: version {secret.version} is not enabled")


def _service_findings(shell: Shell, place: Place) -> Iterator[Finding]:
    """Public invokers and a disabled check of the service that runs; accounts that services of any region share."""
    services = [_object(service) for service in _list(shell.ask(place.gcloud("run", "services", "list"), []))]
    gateway, agent = place.email(GATEWAY_ACCOUNT), place.email(AGENT_ACCOUNT)
    running = {}
    for service in services:
        name, region = _name(service), _region(service, place)
        if name != SERVICE and _account(service) == gateway:
            yield Finding(sentence=f"service {name} in {region} runs as {gateway}: give it an account of its own")
        if region == place.region:
            running[name] = service
    if SERVICE not in running and not shell.dry:
        return
    current = running.get(SERVICE, {})
    if _account(current) == agent:
        yield Finding(sentence=f"service {SERVICE} runs as {agent}: the gateway and its agents must not share one")
    annotations = _object(_object(current.get("metadata")).get("annotations"))
    if annotations.get(INVOKER_CHECK_OFF) == "true":
        yield Finding(
            sentence=f"service {SERVICE}: its invoker check is off: anybody is any agent. Put it on first: gcloud run "
            f"services update {SERVICE} --invoker-iam-check --region={place.region} --project={place.project}"
        )
    yield from _invoker_findings(shell.ask(place.run("services", "get-iam-policy", SERVICE), {}), place)


def _invoker_findings(policy: object, place: Place) -> Iterator[Finding]:
    for role, members in _bindings(policy):
        for member in members:
            if member in PUBLIC:
                yield Finding(sentence=f"{member} has {role} on {SERVICE}: take it away, or anybody is any agent")
            elif role == INVOKER and member != place.member(AGENT_ACCOUNT):
                yield Finding(sentence=f"{member} may call {SERVICE} too", grave=False)


def _account_findings(shell: Shell, place: Place) -> Iterator[Finding]:
    wanted = [place.email(account) for account in (GATEWAY_ACCOUNT, AGENT_ACCOUNT)]
    otherwise = [{"email": email} for email in wanted]
    listed = _list(shell.ask(place.gcloud("iam", "service-accounts", "list"), otherwise))
    found = {_object(account).get("email") for account in listed}
    for email in wanted:
        if email not in found:
            yield Finding(sentence=f"{email} is not there: run `just bootstrap {place.project} {place.region}`")


def _grant_findings(shell: Shell, place: Place) -> Iterator[Finding]:
    """Roles on the project reach further than any on the service: agents have none, and nobody public has."""
    policy = shell.ask(place.gcloud("projects", "get-iam-policy", place.project), {})
    for role, members in _bindings(policy):
        if place.member(AGENT_ACCOUNT) in members:
            yield Finding(
                sentence=f"{place.email(AGENT_ACCOUNT)} has {role} on the project: it needs none, take it away"
            )
        for member in PUBLIC:
            if member in members:
                yield Finding(sentence=f"{member} has {role} on the project: take it away")


def _bindings(policy: object) -> list[tuple[str, list[str]]]:
    found = []
    for binding in _list(_object(policy).get("bindings")):
        members = [str(member) for member in _list(_object(binding).get("members"))]
        found.append((str(_object(binding).get("role")), members))
    return found


def _name(service: Mapping[str, object]) -> str:
    return str(_object(service.get("metadata")).get("name"))


def _region(service: Mapping[str, object], place: Place) -> str:
    labels = _object(_object(service.get("metadata")).get("labels"))
    return str(labels.get("cloud.googleapis.com/location", place.region))


def _account(service: Mapping[str, object]) -> object:
    template = _object(_object(service.get("spec")).get("template"))
    return _object(template.get("spec")).get("serviceAccountName")


def _object(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else []
