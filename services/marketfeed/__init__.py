"""Real-time market data that you run yourself: a feed in, a log of every trade, live prices and 1-second bars out."""
