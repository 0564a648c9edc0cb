"""What the operator decided: the environment and the configuration file, read once into frozen values.

Nobody else reads the environment. Everything is checked here, all faults are told at once, and a fault stops the
process before it listens. Start at `reading`.
"""
