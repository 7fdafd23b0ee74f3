"""Who may be here: accounts and their approval, login, tokens, SSH keys, the audit trail."""
