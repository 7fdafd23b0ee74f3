"""The instance's one door for apps, for any Jupyter server in it: port 8888 under the base URL that
the gateway knows. The gateway brings the token with each request; browsers never have it, and a
request without it gets nothing."""

from pathlib import Path

run = Path("/run/chusuan")

c = get_config()  # noqa: F821
c.ServerApp.ip = "0.0.0.0"  # noqa: S104  its container's own
c.ServerApp.port = 8888
c.ServerApp.port_retries = 0
c.ServerApp.base_url = (run / "app_base_url").read_text().strip()
c.IdentityProvider.token = (run / "app_token").read_text().strip()
# JupyterLab's page would hand the token to its scripts; they need none.
c.ServerApp.tornado_settings = {"page_config_hook": lambda _, page: {**page, "token": ""}}
c.PasswordIdentityProvider.allow_password_change = False
c.ServerApp.allow_root = True
c.ServerApp.allow_remote_access = True
c.ServerApp.open_browser = False
c.ServerApp.root_dir = "/root"
c.ServerApp.quit_button = False
c.ServerApp.terminado_settings = {"shell_command": ["/bin/bash", "-l"]}
# The public address ends at the gateway, which says it in these headers.
c.ServerApp.trust_xheaders = True
