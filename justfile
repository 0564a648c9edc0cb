# The project's commands. `./just RECIPE` works on a bare machine; `just RECIPE` where just is installed.

python := env("PYTHON", "python3")
bin := justfile_directory() / ".venv/bin"
project := env("PROJECT", "")
region := env("REGION", "")

# list the recipes
default:
    @just --justfile {{justfile()}} --list

# show the whole system at work on this machine: local cloud, gateway and agent as processes of their own
demo *ARGS: _runtime
    @{{bin}}/gateway demo {{ARGS}}

# run the tests, two files at a time because most of them wait for processes (ARGS go to pytest)
test *ARGS: _dev
    @{{bin}}/python -m pytest --numprocesses 2 --dist loadfile {{ARGS}}

# lint, types, import contracts, generated code without drift, the README's commands
check: _dev
    {{bin}}/ruff check .
    {{bin}}/ruff format --check .
    {{bin}}/mypy
    {{bin}}/lint-imports
    {{bin}}/python protos/generate.py --check
    {{bin}}/gateway policy test policies
    {{bin}}/python tests/readme_commands.py

# write generated/ anew from protos/
generate: _dev
    {{bin}}/python protos/generate.py

# format the code
fmt: _dev
    {{bin}}/ruff check --fix .
    {{bin}}/ruff format .

# measure act, chat, cold, drain, grow, leave, steps, versus or wire; the last line is one JSON object
bench NAME *ARGS: _dev
    @{{bin}}/python -m bench.{{NAME}} {{ARGS}}

# kill the gateway at every step and compare the truth afterwards (--injections 1000 --seed N --ledger both)
faults *ARGS: _dev
    @{{bin}}/python tests/faults/campaign.py {{ARGS}}

# cut the callers' connections at random bytes and count the effects (--calls 10000 --seed N)
cuts *ARGS: _dev
    @{{bin}}/python tests/faults/cuts.py {{ARGS}}

# run the official conformance suite against the port and the agent's client (ARGS: server, client, -- the runner's own)
conformance *ARGS: _dev
    @{{bin}}/python tests/conformance/run.py {{ARGS}}

# run a gateway with a configuration file
serve CONFIG: _runtime
    @{{bin}}/gateway serve --config {{CONFIG}}

# build the image with podman, docker or buildah
image BUILDER="podman" *ARGS:
    {{BUILDER}} build --file Containerfile {{ARGS}} --tag gateway .

# build the image and run it under Cloud Run's limits; needs root, buildah, podman, runc and debootstrap
test-image: _dev
    @GATEWAY_IMAGE_TESTS=1 {{bin}}/python -m pytest tests/image

# make a project ready: APIs, registry, accounts, secrets, least grants (--dry-run prints the commands)
bootstrap PROJECT REGION *ARGS: _runtime
    @{{bin}}/python -m deploy.bootstrap {{PROJECT}} {{REGION}} {{ARGS}}

# a new password for the database's user, and its URL into the secret
database-password *ARGS: _runtime
    @{{bin}}/python -m deploy.database {{ARGS}} {{project}} {{region}}

# what stands against a deployment; PROJECT and REGION from the environment
preflight *ARGS: _runtime
    @{{bin}}/python -m deploy.preflight {{ARGS}} {{project}} {{region}}

# build, push, deploy, call as an agent, go back on failure; --dry-run prints every command
deploy *ARGS: _runtime
    @{{bin}}/python -m deploy.deploy {{ARGS}} {{project}} {{region}}

# deploy the agent's own service
deploy-agent *ARGS: _runtime
    @{{bin}}/python -m deploy.agent {{ARGS}} {{project}} {{region}}

# so many per cent of the calls to the newest revision
canary PERCENT *ARGS: _runtime
    @{{bin}}/python -m deploy.canary {{PERCENT}} {{ARGS}} {{project}} {{region}}

# all calls to the revision before
rollback *ARGS: _runtime
    @{{bin}}/python -m deploy.rollback {{ARGS}} {{project}} {{region}}

# write the lock files anew from pyproject.toml
lock: _dev
    {{bin}}/python requirements/lock.py

@_runtime:
    {{python}} {{justfile_directory()}}/bootstrap.py

@_dev:
    {{python}} {{justfile_directory()}}/bootstrap.py dev
