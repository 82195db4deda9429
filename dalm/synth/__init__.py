"""Make questions, answers and exercises from passages."""
