"""From images to decisions: the bundle in service, its queue and threads, and who hears of it."""
