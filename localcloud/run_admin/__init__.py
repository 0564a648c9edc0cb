"""The local Cloud Run admin API: what `gcloud run`, `gcloud iam` and their kin talk to, on loopback.

It stands as a forward proxy: gcloud is told to speak plain http to the real host names and to send everything here, so
no name is resolved and nothing can leave the machine (study of Cloud Run, section 4.1). `gcloud_environment` says how.
Judged by the real gcloud in `tests/contract/test_gcloud_judge.py`.
"""

from localcloud.run_admin.config import AdminConfig, AdminConfigError, Start
from localcloud.run_admin.server import RunAdmin, gcloud_environment

__all__ = ["AdminConfig", "AdminConfigError", "RunAdmin", "Start", "gcloud_environment"]
