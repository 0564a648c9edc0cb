"""Stations of which one part does as a test says, and all else as ever: for `wrapped` of a whole gateway."""

from dataclasses import replace


class Instead:
    """A station of which some functions are replaced by ones that fail in a named way."""

    def __init__(self, real, **replaced):
        self._real = real
        self._replaced = replaced

    def __getattr__(self, name):
        return self._replaced.get(name) or getattr(self._real, name)


def instead(station, **replaced):
    """The same stations with functions of one of them replaced."""
    return lambda stations: replace(stations, **{station: Instead(getattr(stations, station), **replaced)})


def gated(gate):
    """Tools that are executed only once the gate is open."""

    def wrapped(stations):
        async def execute(reservation):
            await gate.wait()
            return await stations.tools.execute(reservation)

        return instead("tools", execute=execute)(stations)

    return wrapped


def raises(error):
    """A function that fails so."""

    async def fail(*_):
        raise error

    return fail
