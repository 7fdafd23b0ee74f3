"""What this image serves beside JupyterLab."""

c = get_config()  # noqa: F821
c.ServerProxy.servers = {
    "tensorboard": {
        "command": [
            "/opt/jupyter/bin/tensorboard",
            "--logdir=/root/data/tensorboard",
            "--host=127.0.0.1",
            "--port={port}",
        ],
        "timeout": 60,
        "launcher_entry": {"title": "TensorBoard"},
    }
}
