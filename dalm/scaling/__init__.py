"""Map work over items: in this process, in several, or in actors of a Ray cluster."""
