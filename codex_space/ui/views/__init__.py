"""What the tabs show, as plain functions over services' values; no gradio here, so that tests need no browser."""
