"""The command line: every button of the page has a command here, and both call services."""
