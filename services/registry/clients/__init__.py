"""Others, as the image centre needs them: a protocol, its HTTP form and its fake each."""
