"""Programs that Go installs, found where Go puts them, whether that is on the path or not."""

import os
import shutil
import subprocess
from pathlib import Path


def go_program(name):
    """Where a program is: on the path, or in a folder of `go install`; None if nowhere."""
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(map(str, _folders())))


def not_found(name):
    """Why a test is skipped."""
    return f"not found: {name}, neither on the path nor where Go installs programs ({', '.join(map(str, _folders()))})"


def _folders():
    gobin, gopath = _told_by_go()
    paths = (os.environ.get("GOPATH") or gopath or str(Path.home() / "go")).split(os.pathsep)
    own = [Path(folder) for folder in (os.environ.get("GOBIN"), gobin) if folder]
    return [*own, *(Path(folder) / "bin" for folder in paths if folder)]


def _told_by_go():
    """GOBIN and GOPATH as `go env -w` may have set them; empty without Go."""
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        return "", ""
    command = [go, "env", "GOBIN", "GOPATH"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout
    gobin, _, gopath = told.rstrip("\n").partition("\n")
    return gobin, gopath
