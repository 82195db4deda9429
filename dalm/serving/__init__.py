"""An index and two models in, answers out."""
