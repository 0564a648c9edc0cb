variable "project" {
  description = "The project's id."
  type        = string
}

variable "region" {
  description = "The region of the service and of its images, such as us-central1."
  type        = string
}

variable "secrets" {
  description = "The secrets that service.yaml refers to. Their values are never given to Terraform, whose state would keep them."
  type        = set(string)
  default     = ["exchange-key-id", "exchange-secret-key", "exchange-order-key", "gateway-config"]
}

variable "service_exists" {
  description = "Whether gateway-service has been deployed: a grant on a service cannot be made before it."
  type        = bool
  default     = false
}

variable "operator" {
  description = "The member that deploys, such as user:ann@example.com; empty if that is an owner who makes no smoke call."
  type        = string
  default     = ""
}

variable "database" {
  description = "Whether the ledger is to be in Cloud SQL (database.tf) instead of on an instance's own disk."
  type        = bool
  default     = false
}

variable "database_tier" {
  description = "The database's machine."
  type        = string
  default     = "db-custom-1-3840"
}

variable "database_password" {
  description = "The password of the database's user: letters and digits, such as those of `openssl rand -hex 24`. Give it as TF_VAR_database_password."
  type        = string
  default     = ""
  sensitive   = true
  ephemeral   = true
  validation {
    condition     = can(regex("^([0-9A-Za-z]{32,})?$", var.database_password))
    error_message = "Write at least 32 letters and digits, and nothing else: it stands in a URL."
  }
}

variable "database_password_version" {
  description = "Raise it by one to set a new password."
  type        = number
  default     = 1
}

variable "subnet_range" {
  description = "Addresses for the gateway's instances: a /26 or larger that nothing else in the network uses."
  type        = string
  default     = "10.8.0.0/26"
}
