"""Score candidate passages of questions: what teaches a retriever where gold passages are few."""
