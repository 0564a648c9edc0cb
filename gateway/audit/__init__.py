"""What happened, provably: records as bytes, the chain that binds them, and the verifier that trusts nobody."""
