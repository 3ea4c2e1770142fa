"""Files, locks, progress, arguments: nothing here knows what a channel is."""
