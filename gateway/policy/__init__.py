"""May they: from a caller, an ask and facts to a permit, a hold or a refusal, and never to anything in between."""
