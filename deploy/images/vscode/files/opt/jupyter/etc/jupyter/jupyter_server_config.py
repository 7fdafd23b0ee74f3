"""What this image serves: VS Code, whose only door is a socket that the Jupyter server opens."""

c = get_config()  # noqa: F821
c.ServerApp.default_url = "/vscode/"
c.ServerProxy.servers = {
    "vscode": {
        "command": [
            "/opt/code-server/node",
            "/opt/code-server/node_modules/code-server",
            "--config=/dev/null",
            "--auth=none",
            # The browser's Origin is the gateway's, which is no name of ours; the token was asked.
            "--trusted-origins=*",
            "--socket={unix_socket}",
            "--disable-telemetry",
            "--disable-update-check",
            "--disable-getting-started-override",
            "/root",
        ],
        "unix_socket": True,
        "timeout": 60,
        "launcher_entry": {"title": "VS Code"},
    }
}
