"""Hold the toy domain's tables, and the script path of the original toolkit."""
