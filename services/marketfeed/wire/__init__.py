"""Pure codecs between bytes and domain values: Finnhub's JSON, the log's records, the WebSocket's messages."""
