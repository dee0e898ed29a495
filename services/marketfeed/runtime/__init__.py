"""The asyncio kit of every service: tasks, signals, settings, health, metrics, logs, tracing. No business in it."""
