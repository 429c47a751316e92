"""What people read: the answer in words and tables, the page, the figures, the console."""
