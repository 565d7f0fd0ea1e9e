"""What each tab shows, as plain functions without gradio."""
