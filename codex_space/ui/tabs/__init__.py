"""One file a tab: a frozen dataclass of components, layout(), wire()."""
