"""The local cloud is the outside world on one machine, over real sockets and in real wire formats."""
