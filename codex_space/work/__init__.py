"""What a worker process runs (torch lives here); started as a process and never imported by the page."""
