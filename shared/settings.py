"""What every service must be told; each service's `settings.py` adds its own fields.

Built once, in `main` or by the composition root, never at import. The embedded and the split
shape differ only in these values.
"""

import os

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServiceSettings(BaseSettings):
    """Each may also stand in a file `chusuan_<field>` of the folder that CHUSUAN_SECRETS_DIR names.

    database_url: `postgresql+asyncpg://…`, a database of this service alone.
    bus_url: `memory://NAME` (in this process) or `amqp://…`.
    broker_management_url: `http://HOST:15672`, where the bus's login may look (it needs the tag
    `management`); empty: a binding that somebody removed is made again, and nobody is told.
    redis_url: `memory://NAME` (in this process) or `redis://…`.
    auth_url and its kin: `unix:/path/to.sock` or `http://host:port`.
    service_secret: proves to auth who this service is.
    outbox_kept_s: how long a fact can be told again once it was told; three days. A host tells
    about 3000 facts a day that it runs something, a kilobyte each.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_prefix="CHUSUAN_",
        secrets_dir=os.environ.get("CHUSUAN_SECRETS_DIR"),
    )

    database_url: str
    bus_url: str = "memory://chusuan"
    broker_management_url: str = ""
    redis_url: str = "memory://chusuan"
    auth_url: str = "http://auth:8000"
    service_secret: SecretStr
    database_pool_size: int = 8
    outbox_kept_s: float = Field(default=3 * 86400.0, ge=60, le=366 * 86400.0)
    log_level: str = "INFO"
