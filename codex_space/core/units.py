"""Numbers with their units, as page and command line show them."""


def render_bytes(size_bytes: float) -> str:
    """Return 3 digits and a unit: `1.23 GB`."""
    size, units = float(size_bytes), ["B", "kB", "MB", "GB", "TB"]
    while size >= 999.5 and len(units) > 1:
        size, units = size / 1000, units[1:]
    digits = 0 if units[0] == "B" or size >= 99.95 else 1 if size >= 9.995 else 2
    return f"{size:.{digits}f} {units[0]}"
