"""Other services, as storage needs them: a protocol, its HTTP form and its fake each."""
