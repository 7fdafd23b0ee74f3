"""Compute market and billing: offers, prices, wallets, the ledger, metering."""
