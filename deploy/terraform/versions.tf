terraform {
  # Write-only arguments and ephemeral variables: the password of the database is in no state.
  required_version = ">= 1.11"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.30"
    }
  }
}

provider "google" {
  project = var.project
  region  = var.region
}
