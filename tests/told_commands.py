"""A recorder in the place of gcloud: says of each command what a table says, and keeps the order."""

import json

from deploy.faults import CommandError
from deploy.place import APIS, Place
from deploy.shell import Shell

PLACE = Place(project="acme-agents", region="us-central1")
GATEWAY, AGENT = PLACE.member("sa-gateway"), PLACE.member("sa-agent")
URL = "https://gateway-service-1.us-central1.run.app"
ASIDE = URL.replace("https://", "https://candidate---")
DIGEST = f"us-central1-docker.pkg.dev/acme-agents/agentic-gateway/gateway@sha256:{'a' * 64}"

__all__ = ["AGENT", "APIS", "ASIDE", "DIGEST", "GATEWAY", "PLACE", "URL", "Told", "service"]


def service(newest, traffic, *, tagged="", name="gateway-service", account=GATEWAY, **annotations):
    """A service as `gcloud run services describe` tells it."""
    targets = [{"revisionName": revision, "percent": percent} for revision, percent in traffic.items()]
    if tagged:
        targets.append({"revisionName": tagged, "tag": "candidate", "url": ASIDE})
    return {
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"template": {"spec": {"serviceAccountName": account.partition(":")[2]}}},
        "status": {"url": URL, "latestReadyRevisionName": newest, "traffic": targets},
    }


class Told:
    """Answers by the first entry whose words all stand in the command; lists are used up one by one.

    An answer is text, a JSON value, or a CommandError's words after "ERROR: ". What no entry knows answers "".
    """

    def __init__(self, *answers):
        self._answers = [(words.split(), answer) for words, answer in answers]
        self.commands, self.inputs, self.lines, self.pauses = [], [], [], []
        self.shell = Shell(dry=False, tell=self.lines.append, run=self._run, pause=self.pauses.append)

    def _run(self, command, given, seconds):
        assert 0 < seconds <= 1200
        self.commands.append(" ".join(command))
        self.inputs.append(given)
        for words, answer in self._answers:
            if all(word in command for word in words):
                return self._said(answer, command)
        return ""

    def _said(self, answer, command):
        if isinstance(answer, list) and answer and isinstance(answer[0], tuple):
            (answer,) = answer.pop(0) if len(answer) > 1 else answer[0]
        if isinstance(answer, str) and answer.startswith("ERROR: "):
            raise CommandError(" ".join(command), answer)
        return answer if isinstance(answer, str) else json.dumps(answer)

    def where(self, *words):
        """The places of the commands that have all these words in them."""
        return [place for place, command in enumerate(self.commands) if all(word in command.split() for word in words)]
