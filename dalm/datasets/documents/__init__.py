"""Files of documents in, passages out.

A reader turns a file into documents (`reading`), each is cut into passages (`splitting`) that
keep their place in it, and what was met before is left out (`duplicates`, `passage_file`).
"""
