"""`chusuan register, login, logout, whoami, keys` and what operators do with accounts."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.client import Json, Trouble
from cli.command import CommandGroup, desk_of
from cli.naming import choose, find_account
from cli.output import Column, Output, moment
from shared.text import Text

PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input.")
]
AccountName = Annotated[str, typer.Argument(metavar="ACCOUNT", help="Username or id.")]

ACCOUNT_COLUMNS = (
    Column(Text("用户名", "USERNAME"), "username"),
    Column(Text("状态", "STATUS"), "status"),
    Column(Text("角色", "ROLE"), "role"),
    Column(Text("单位", "ORGANISATION"), "organisation"),
    Column(Text("邮箱", "EMAIL"), "email"),
    Column(Text("用途", "PURPOSE"), "purpose"),
    Column(Text("原因", "REASON"), "status_reason"),
    Column(Text("注册时间", "CREATED"), lambda a: moment(a.get("created_at"))),
    Column(Text("编号", "ID"), "id"),
)
KEY_COLUMNS = (
    Column(Text("名称", "NAME"), "name"),
    Column(Text("指纹", "FINGERPRINT"), "fingerprint"),
    Column(Text("添加时间", "ADDED"), lambda k: moment(k.get("created_at"))),
    Column(Text("编号", "ID"), "id"),
)


def register(
    ctx: typer.Context,
    username: Annotated[str, typer.Argument()],
    email: Annotated[str, typer.Option(prompt=True)],
    phone: Annotated[str, typer.Option(prompt=True)],
    organisation: Annotated[str, typer.Option(prompt=True)],
    purpose: Annotated[str, typer.Option(prompt=True, help="What you will use it for.")],
    password_stdin: PasswordStdin = False,
) -> None:
    """Ask for an account; an operator approves it."""
    desk = desk_of(ctx)
    body: Json = {
        "username": username,
        "email": email,
        "phone": phone,
        "organisation": organisation,
        "purpose": purpose,
        "password": _password(desk.output, from_stdin=password_stdin, twice=True),
    }
    account = desk.gateway.call("POST", "/accounts", json=body, public=True)
    desk.output.record(account, ACCOUNT_COLUMNS)


def login(
    ctx: typer.Context,
    username: Annotated[str, typer.Argument()],
    password_stdin: PasswordStdin = False,
) -> None:
    """Log in at this gateway; later commands use the login."""
    desk = desk_of(ctx)
    password = _password(desk.output, from_stdin=password_stdin)
    account = desk.gateway.log_in(username, password)["account"]
    if desk.output.as_json:
        desk.output.document(account)
    desk.output.say(
        "已登录：{who}（{status}），{url}",
        "Logged in as {who} ({status}) at {url}",
        who=account["username"],
        status=account["status"],
        url=desk.gateway.url,
    )


def logout(ctx: typer.Context) -> None:
    """End the session and forget its tokens."""
    desk = desk_of(ctx)
    desk.gateway.log_out()
    if desk.output.as_json:
        desk.output.document({})
    desk.output.say("已退出登录。", "Logged out.")


def whoami(ctx: typer.Context) -> None:
    """Your account."""
    desk = desk_of(ctx)
    desk.output.record(desk.gateway.get("/accounts/me"), ACCOUNT_COLUMNS)


def accounts(
    ctx: typer.Context,
    status: Annotated[str | None, typer.Option(help="pending, active, rejected, disabled")] = None,
    query: Annotated[str | None, typer.Option("--query", "-q", help="Part of a name.")] = None,
) -> None:
    """(operator) All accounts."""
    desk = desk_of(ctx)
    found = desk.gateway.items("/accounts", status=status, q=query)
    desk.output.listing(found, ACCOUNT_COLUMNS)


def approve(ctx: typer.Context, account: AccountName) -> None:
    """(operator) Approve an account."""
    desk = desk_of(ctx)
    found = find_account(desk.gateway, account)
    answer = desk.gateway.post(f"/accounts/{found['id']}/approve")
    desk.output.record(answer, ACCOUNT_COLUMNS)


def reject(
    ctx: typer.Context,
    account: AccountName,
    reason: Annotated[str, typer.Option(prompt=True, help="The person reads it.")],
) -> None:
    """(operator) Reject an account."""
    desk = desk_of(ctx)
    found = find_account(desk.gateway, account)
    answer = desk.gateway.post(f"/accounts/{found['id']}/reject", {"reason": reason})
    desk.output.record(answer, ACCOUNT_COLUMNS)


def credit(
    ctx: typer.Context,
    account: AccountName,
    amount: Annotated[str, typer.Argument(help="Yuan, such as 100.00")],
    note: Annotated[str, typer.Option(help="Shown in the wallet.")] = "credit",
) -> None:
    """(operator) Put money into a wallet."""
    desk = desk_of(ctx)
    found = find_account(desk.gateway, account)
    body = {"amount": amount, "note": note}
    answer = desk.gateway.create(f"/wallets/{found['id']}/credits", body)
    if desk.output.as_json:
        desk.output.document(answer)
    desk.output.say(
        "已为 {who} 充值 {amount} 元。",
        "Credited {amount} CNY to {who}.",
        who=found["username"],
        amount=amount,
    )


keys = typer.Typer(cls=CommandGroup, no_args_is_help=True, help="SSH keys for instances and SFTP.")


@keys.command("list")
def list_keys(ctx: typer.Context) -> None:
    """Your keys."""
    desk = desk_of(ctx)
    desk.output.listing(_keys(ctx), KEY_COLUMNS)


@keys.command("add")
def add_key(
    ctx: typer.Context,
    path: Annotated[Path, typer.Argument(help="A public key file.")] = Path(
        "~/.ssh/id_ed25519.pub"
    ),
    name: Annotated[str | None, typer.Option(help="The key's comment unless given.")] = None,
) -> None:
    """Add a public key."""
    desk = desk_of(ctx)
    try:
        line = path.expanduser().read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Trouble(f"无法读取公钥：{error}", f"Cannot read the public key: {error}") from error
    if "PRIVATE KEY" in line:
        raise Trouble(
            f"{path} 是私钥，请勿上传；请使用对应的 .pub 文件。",
            f"{path} is a private key and stays with you; give its .pub file.",
        )
    comment = line.split(maxsplit=2)[2] if len(line.split()) > 2 else path.stem
    body = {"name": name or comment, "public_key": line}
    desk.output.record(desk.gateway.create("/ssh-keys", body), KEY_COLUMNS)


@keys.command("rm")
def remove_key(ctx: typer.Context, key: Annotated[str, typer.Argument()]) -> None:
    """Remove a key by name, fingerprint or id."""
    desk = desk_of(ctx)
    found = choose(key, _keys(ctx), ("密钥", "key"), "name", "fingerprint")
    desk.gateway.call("DELETE", f"/ssh-keys/{found['id']}")
    if desk.output.as_json:
        desk.output.document({})
    desk.output.say("已删除密钥 {name}。", "Removed key {name}.", name=found["name"])


def _keys(ctx: typer.Context) -> list[Json]:
    return desk_of(ctx).gateway.items("/ssh-keys")


def _password(output: Output, *, from_stdin: bool, twice: bool = False) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    answer: str = typer.prompt(
        output.text("密码", "Password"), hide_input=True, confirmation_prompt=twice, err=True
    )
    return answer
