"""The registry: its model, its rules, its ports, and two databases behind them."""
