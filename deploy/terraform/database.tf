# The ledger's database, with database = true: Cloud SQL for PostgreSQL at a private address, and the gateway's way there.
# It has no public address. The gateway signs in with a password that is in Secret Manager and nowhere else: the
# arguments that end with _wo are given to Google and never kept in Terraform's state.

locals {
  database_apis = toset(var.database ? [
    "compute.googleapis.com",
    "servicenetworking.googleapis.com",
    "sqladmin.googleapis.com",
  ] : [])
}

resource "google_project_service" "database_apis" {
  for_each           = local.database_apis
  project            = var.project
  service            = each.value
  disable_on_destroy = false
}

resource "google_compute_network" "gateway" {
  count                   = var.database ? 1 : 0
  project                 = var.project
  name                    = "agentic-gateway"
  auto_create_subnetworks = false
  depends_on              = [google_project_service.database_apis]
}

# Where the instances of the gateway get their addresses: about two for each.
resource "google_compute_subnetwork" "gateway" {
  count                    = var.database ? 1 : 0
  project                  = var.project
  region                   = var.region
  name                     = "agentic-gateway"
  network                  = google_compute_network.gateway[0].id
  ip_cidr_range            = var.subnet_range
  private_ip_google_access = true
}

# Where Google puts the database: addresses of this network, used by Google's own that is joined to it.
resource "google_compute_global_address" "services" {
  count         = var.database ? 1 : 0
  project       = var.project
  name          = "agentic-gateway-services"
  purpose       = "VPC_PEERING"
  address_type  = "INTERNAL"
  prefix_length = 20
  network       = google_compute_network.gateway[0].id
}

resource "google_service_networking_connection" "services" {
  count                   = var.database ? 1 : 0
  network                 = google_compute_network.gateway[0].id
  service                 = "servicenetworking.googleapis.com"
  reserved_peering_ranges = [google_compute_global_address.services[0].name]
}

resource "google_sql_database_instance" "ledger" {
  count               = var.database ? 1 : 0
  project             = var.project
  region              = var.region
  name                = "agentic-gateway"
  database_version    = "POSTGRES_17"
  deletion_protection = true
  depends_on          = [google_service_networking_connection.services]
  settings {
    edition           = "ENTERPRISE"
    tier              = var.database_tier
    availability_type = "REGIONAL"
    disk_autoresize   = true
    ip_configuration {
      ipv4_enabled    = false
      private_network = google_compute_network.gateway[0].id
      ssl_mode        = "ENCRYPTED_ONLY"
    }
    backup_configuration {
      enabled                        = true
      point_in_time_recovery_enabled = true
    }
  }
}

resource "google_sql_database" "ledger" {
  count    = var.database ? 1 : 0
  project  = var.project
  instance = google_sql_database_instance.ledger[0].name
  name     = "gateway"
}

resource "google_sql_user" "gateway" {
  count               = var.database ? 1 : 0
  project             = var.project
  instance            = google_sql_database_instance.ledger[0].name
  name                = "gateway"
  password_wo         = var.database_password
  password_wo_version = var.database_password_version
}

resource "google_secret_manager_secret" "database_url" {
  count     = var.database ? 1 : 0
  project   = var.project
  secret_id = "gateway-database-url"
  replication {
    auto {}
  }
  depends_on = [google_project_service.apis]
}

resource "google_secret_manager_secret_version" "database_url" {
  count                  = var.database ? 1 : 0
  secret                 = google_secret_manager_secret.database_url[0].id
  secret_data_wo         = "postgresql://gateway:${var.database_password}@${google_sql_database_instance.ledger[0].private_ip_address}:5432/gateway?sslmode=require"
  secret_data_wo_version = var.database_password_version
}

resource "google_secret_manager_secret_iam_member" "gateway_reads_database_url" {
  count     = var.database ? 1 : 0
  project   = var.project
  secret_id = google_secret_manager_secret.database_url[0].secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.gateway.member
}
