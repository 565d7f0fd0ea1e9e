"""The workspace database (SQLite, WAL); imports core only, and only this layer speaks SQL."""
