"""Composes auth."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from fastapi import FastAPI
from pydantic import SecretStr

from services.auth.account_lifecycle import ensure_first_operator
from services.auth.api import accounts, audit, events, internal, keys, sessions, ssh_keys
from services.auth.api.throttled import install_throttled_handler
from services.auth.authentication import Authenticator, LoginLimits
from services.auth.consumers import audit_subscription, retelling_subscription
from services.auth.deps import Parts, put_parts
from services.auth.passwords import Passwords
from services.auth.revoking import Revoking
from services.auth.settings import AuthSettings
from services.auth.signing import load_signing_key
from services.auth.subscribing import Admissions
from services.auth.tailing import Tails
from services.auth.throttle import Limit, Throttle
from services.auth.workers import clearing, settling, telling
from shared.app import Runtime, create_service_app
from shared.bus import Subscription
from shared.bus.admission import Admission, BrokerAdmission
from shared.revocation import Revocations
from shared.tokens import KeySource
from shared.worker import Worker

ROUTERS = (
    accounts.router,
    sessions.router,
    ssh_keys.router,
    audit.router,
    events.router,
    keys.router,
    internal.router,
)


def create_app(
    settings: AuthSettings,
    *,
    key_source: KeySource | None = None,
    admission: Admission | None = None,
) -> FastAPI:
    """key_source: for tests that mint their own tokens; auth trusts its own key otherwise.
    admission: over the broker's management unless given; used only with `broker_admin_url`."""
    key = load_signing_key(settings.signing_key_file, token_lives_s=settings.access_token_lives_s)
    ended = Revocations()

    async def setup(
        app: FastAPI, runtime: Runtime
    ) -> tuple[Sequence[Subscription], Sequence[Worker]]:
        passwords = Passwords(settings.hash_threads)
        runtime.stack.callback(passwords.close)
        throttle = Throttle(runtime.redis)
        revoking = Revoking(runtime.database, runtime.redis, ended)
        authenticator = Authenticator(
            runtime.database, passwords, throttle, _login_limits(settings), revoking
        )
        workers = [clearing(runtime.database), telling(revoking)]
        settle_subscribers = asyncio.Event()
        if settings.broker_admin_url is not None:
            broker = admission or await _open_broker(settings.broker_admin_url, runtime)
            admissions = Admissions(runtime.database, broker, key.outside_key)
            workers.append(settling(admissions, settle_subscribers))
        parts = Parts(
            settings=settings,
            database=runtime.database,
            key=key,
            passwords=passwords,
            throttle=throttle,
            authenticator=authenticator,
            revoking=revoking,
            registrations=Limit(
                "registration", settings.registrations_per_address, settings.registrations_window_s
            ),
            tails=Tails(runtime.bus),
            settle_subscribers=settle_subscribers,
        )
        put_parts(app, parts)
        if settings.first_operator_password_file is not None:
            await ensure_first_operator(
                runtime.database, passwords, settings.first_operator_password_file
            )
        heard = (audit_subscription, retelling_subscription)
        return [subscription(runtime.database) for subscription in heard], workers

    app = create_service_app(
        "auth",
        settings,
        migrations=Path(__file__).parent / "migrations",
        routers=ROUTERS,
        setup=setup,
        key_source=key_source or key,
        revocations=ended,
    )
    install_throttled_handler(app)
    return app


async def _open_broker(url: SecretStr, runtime: Runtime) -> Admission:
    """Closed with the service."""
    return await runtime.stack.enter_async_context(BrokerAdmission(url.get_secret_value()))


def _login_limits(settings: AuthSettings) -> LoginLimits:
    window_s = settings.failed_logins_window_s
    return LoginLimits(
        per_account=Limit("login.account", settings.failed_logins_per_account, window_s),
        per_address=Limit("login.address", settings.failed_logins_per_address, window_s),
    )
