# What `just bootstrap` makes, as Terraform: use one of the two. The services themselves are deployed from service.yaml
# and deploy/agent.yaml.

locals {
  apis = toset([
    "run.googleapis.com",
    "aiplatform.googleapis.com",
    "artifactregistry.googleapis.com",
    "secretmanager.googleapis.com",
    "iam.googleapis.com",
    "iamcredentials.googleapis.com",
  ])
}

resource "google_project_service" "apis" {
  for_each           = local.apis
  project            = var.project
  service            = each.value
  disable_on_destroy = false
}

resource "google_artifact_registry_repository" "images" {
  project       = var.project
  location      = var.region
  repository_id = "agentic-gateway"
  format        = "DOCKER"
  depends_on    = [google_project_service.apis]
}

resource "google_service_account" "gateway" {
  project      = var.project
  account_id   = "sa-gateway"
  display_name = "Agentic Gateway"
  depends_on   = [google_project_service.apis]
}

resource "google_service_account" "agent" {
  project      = var.project
  account_id   = "sa-agent"
  display_name = "Agents behind the gateway"
  depends_on   = [google_project_service.apis]
}

resource "google_secret_manager_secret" "secrets" {
  for_each  = var.secrets
  project   = var.project
  secret_id = each.value
  replication {
    auto {}
  }
  depends_on = [google_project_service.apis]
}
