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
