"""The words that every part of the gateway shares; standard library only."""
