"""The Gradio page; the only layer that imports gradio (and not in ui/views)."""
