"""The net disk (网盘): every account's files, their quota, and the doors to them."""
