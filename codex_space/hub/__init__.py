"""The Hugging Face Hub over HTTP; imports core only, and only this layer makes network calls."""
