"""Write an evaluation as one HTML page."""
