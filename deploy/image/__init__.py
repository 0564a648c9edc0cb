"""The scripts that the Containerfile runs in its build stage; they need nothing but Python."""
