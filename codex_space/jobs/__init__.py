"""Processes: launching, supervising and adopting workers, the workspace's owner, the uploader; above store, data and hub."""
