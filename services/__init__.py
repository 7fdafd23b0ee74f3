"""Rooms that share nothing but `shared`."""
