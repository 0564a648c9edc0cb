"""What a person does with the gateway from a shell."""
