"""Ground for all rooms: errors, text for people, signals, files, random streams."""
