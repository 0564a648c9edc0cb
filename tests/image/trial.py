"""Whether this machine can build and run images: a base is made and one of its commands run, as `.ci/image` asks."""

import sys
import tempfile
from pathlib import Path

import image_store
import pytest

CANNOT = 3


def why_not():
    """The reason in one line; empty if it can. The base that is made is kept for the tests."""
    store = image_store.Store(Path(tempfile.mkdtemp(prefix="gateway-trial-")))
    try:
        store.podman("import", image_store.base_archive(), image_store.BASE)
        limits = (*image_store.LIMITS, *image_store.AS_CLOUD_RUN)
        store.podman("run", "--rm", *limits, f"localhost/{image_store.BASE}", "/bin/true")
    except (AssertionError, OSError, pytest.skip.Exception) as error:
        return " ".join(str(error).split())[-300:]
    finally:
        store.remove()
    return ""


if __name__ == "__main__":
    if reason := why_not():
        sys.stdout.write(f"{reason}\n")
        sys.exit(CANNOT)
