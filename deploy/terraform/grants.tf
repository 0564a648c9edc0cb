# Every permission that this project gives. tests/unit/deploy/test_terraform_grants.py holds the list.

# The gateway asks models.
resource "google_project_iam_member" "gateway_uses_models" {
  project = var.project
  role    = "roles/aiplatform.user"
  member  = google_service_account.gateway.member
}

# The gateway reads its own secrets, each by name.
resource "google_secret_manager_secret_iam_member" "gateway_reads_secret" {
  for_each  = google_secret_manager_secret.secrets
  project   = var.project
  secret_id = each.value.secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.gateway.member
}

# The one permission of agents. A binding, not a member: whoever else could invoke the gateway loses that.
resource "google_cloud_run_v2_service_iam_binding" "agents_invoke_gateway" {
  count    = var.service_exists ? 1 : 0
  project  = var.project
  location = var.region
  name     = "gateway-service"
  role     = "roles/run.invoker"
  members  = [google_service_account.agent.member]
}

# Who deploys acts as both accounts, and makes an agent's token for the smoke call.
resource "google_service_account_iam_member" "operator_acts_as_gateway" {
  count              = var.operator == "" ? 0 : 1
  service_account_id = google_service_account.gateway.name
  role               = "roles/iam.serviceAccountUser"
  member             = var.operator
}

resource "google_service_account_iam_member" "operator_acts_as_agent" {
  count              = var.operator == "" ? 0 : 1
  service_account_id = google_service_account.agent.name
  role               = "roles/iam.serviceAccountUser"
  member             = var.operator
}

resource "google_service_account_iam_member" "operator_makes_agent_tokens" {
  count              = var.operator == "" ? 0 : 1
  service_account_id = google_service_account.agent.name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = var.operator
}
