"""Others, as the market needs them: a protocol, its HTTP form and its fake each."""
