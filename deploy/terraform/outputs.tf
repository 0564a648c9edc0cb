output "images" {
  description = "Where images are pushed."
  value       = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}"
}

output "gateway_account" {
  value = google_service_account.gateway.email
}

output "agent_account" {
  value = google_service_account.agent.email
}

output "database_address" {
  description = "The database's private address; null without one."
  value       = one(google_sql_database_instance.ledger[*].private_ip_address)
}
