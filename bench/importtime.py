"""What `python -X importtime` told, by module and by the distribution that a module came with."""

import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from importlib.metadata import packages_distributions
from statistics import median
from typing import Final

OWN: Final = "this project"
STANDARD: Final = "standard library"
_OURS: Final = ("gateway", "generated", "agent", "localcloud", "policies", "bench")
_LINE: Final = re.compile(r"^import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)$", re.MULTILINE)


class Imports:
    """Milliseconds that each module took by itself, the median over several processes."""

    def __init__(self, logs: Iterable[str]) -> None:
        """`logs` is what the processes wrote; other lines in them are passed over."""
        spent: dict[str, list[float]] = defaultdict(list)
        for log in logs:
            for microseconds, module in _LINE.findall(log):
                spent[module].append(int(microseconds) / 1000)
        self.modules: Mapping[str, float] = {module: median(rounds) for module, rounds in spent.items()}
        self._owners = {name: owners[0] for name, owners in packages_distributions().items()}
        self._owners |= dict.fromkeys(_OURS, OWN)

    @property
    def total_ms(self) -> float:
        """All modules together."""
        return sum(self.modules.values())

    def owner(self, module: str) -> str:
        """The distribution that a module came with."""
        top = module.partition(".")[0]
        if top in sys.stdlib_module_names:
            return STANDARD
        return self._owners.get(top, top)

    def by_owner(self) -> dict[str, float]:
        """Milliseconds of each distribution, the dearest first."""
        spent: dict[str, float] = defaultdict(float)
        for module, ms in self.modules.items():
            spent[self.owner(module)] += ms
        return dict(sorted(spent.items(), key=lambda item: -item[1]))

    def table(self, modules: int) -> str:
        """Each distribution's share, and the dearest modules."""
        counts: dict[str, int] = defaultdict(int)
        for module in self.modules:
            counts[self.owner(module)] += 1
        lines = [f"{'imported, by distribution':<44}{'modules':>8}{'ms':>10}{'share':>8}"]
        for owner, ms in self.by_owner().items():
            lines.append(f"{owner:<44}{counts[owner]:>8}{ms:>10.1f}{ms / self.total_ms:>8.1%}")
        lines.append(f"{'all':<44}{len(self.modules):>8}{self.total_ms:>10.1f}")
        lines.append(f"{f'the {modules} dearest modules, by themselves':<44}{'':>8}{'ms':>10}{'share':>8}")
        for module, ms in sorted(self.modules.items(), key=lambda item: -item[1])[:modules]:
            lines.append(f"{module:<44}{'':>8}{ms:>10.1f}{ms / self.total_ms:>8.1%}  {self.owner(module)}")
        return "\n".join(lines)
