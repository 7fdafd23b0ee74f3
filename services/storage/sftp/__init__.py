"""The SFTP door of the net disk: stock `sftp` and `scp`, with the platform's password or a key."""
