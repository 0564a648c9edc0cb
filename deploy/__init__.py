"""How the gateway comes to Cloud Run: the manifest's values, the checks before, the commands, and the way back.

Only the standard library and the commands gcloud, docker or podman are needed; `smoke` alone uses the agent's client.
"""
