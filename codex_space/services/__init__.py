"""The verbs that page and command line share; above jobs, below ui and cli."""
