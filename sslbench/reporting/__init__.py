"""From records to tables: the store, sections, columns and their figures, every printed format."""
