"""What is trained, and what is shipped."""
