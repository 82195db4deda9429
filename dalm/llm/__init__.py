"""Language models, loaded here or served, behind one protocol, and the cache of their replies."""
