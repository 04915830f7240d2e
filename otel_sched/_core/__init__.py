"""The core: queues, jobs, pools. Knows the standard library alone; observers tell the rest of the world."""
