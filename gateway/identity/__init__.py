"""Who is calling: from the headers of a call to a registered agent, or a refusal."""
