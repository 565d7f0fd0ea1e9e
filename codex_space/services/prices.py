"""What an hour of each of the Hub's machines costs: as the Hub said last, else as configs/hardware.yaml says."""

from dataclasses import replace

from codex_space.core import durable
from codex_space.core.hardware import Hardware, list_hardware
from codex_space.core.paths import Workspace

PRICES = "hardware_prices.json"
"""In the workspace: {usd_per_hour: {flavour: price}, at}, of when the Hub was asked."""


def price_of(workspace: Workspace, flavor: str) -> float:
    """Return US dollars an hour; 0 for no flavour, or one that nobody has named a price of."""
    found = _asked(workspace).get(flavor)
    if isinstance(found, int | float) and found >= 0:
        return float(found)
    shipped = list_hardware().get(flavor)
    return shipped.usd_per_hour if shipped else 0.0


def priced(workspace: Workspace, machine: Hardware) -> Hardware:
    """Return a flavour at the price the Hub named last."""
    return replace(machine, usd_per_hour=price_of(workspace, machine.name))


def _asked(workspace: Workspace) -> dict[str, float]:
    found = (durable.read_json(workspace.root / PRICES) or {}).get("usd_per_hour")
    return found if isinstance(found, dict) else {}
