"""Other services, as the scheduler needs them: a protocol, its HTTP form and its fake each."""
