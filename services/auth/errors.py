"""Refusals of auth.

DomainError
├── Conflict         UsernameTaken, EmailTaken, SshKeyTaken, TooManySshKeys,
│                    IllegalTransition, OwnAccount, SubscriberTaken, NeedsSplitShape
├── Unauthenticated  WrongCredentials, SessionOver
├── Forbidden        AccountDisabledNow
├── Invalid          WrongPassword, PasswordUnchanged, BadSshKey, NoSuchFact
├── Unavailable      Busy, TooManyTails
└── TooManyAttempts  429
"""

from shared.errors import Conflict, DomainError, Forbidden, Invalid, Unauthenticated, Unavailable
from shared.text import Text


class UsernameTaken(Conflict):
    code = "username_taken"
    title = Text("用户名已被使用", "The username is taken")
    detail = Text("请换一个用户名。", "Choose another username.")


class EmailTaken(Conflict):
    code = "email_taken"
    title = Text("邮箱已被使用", "The e-mail address is taken")
    detail = Text(
        "该邮箱已注册。请换一个邮箱，或用原账号登录。",
        "An account with this address exists. Use another one, or log in with that account.",
    )


class IllegalTransition(Conflict):
    code = "illegal_transition"
    detail = Text(
        "账号状态为 {state}，不能执行 {move}；可执行：{possible}。",
        "The account is {state}, so {move} is not possible; possible: {possible}.",
    )


class OwnAccount(Conflict):
    code = "own_account"
    title = Text("不能停用自己的账号", "You cannot disable your own account")
    detail = Text("请让另一位管理员操作。", "Ask another operator to do it.")


class SshKeyTaken(Conflict):
    code = "ssh_key_taken"
    title = Text("该公钥已添加", "You already have this key")
    detail = Text(
        "相同的公钥已在列表中，无需再次添加。", "The same key is in your list; nothing to add."
    )


class TooManySshKeys(Conflict):
    code = "too_many_ssh_keys"
    title = Text("公钥数量已达上限", "Too many SSH keys")
    detail = Text(
        "最多 {limit} 个公钥，请先删除不用的。", "At most {limit} keys. Delete one you do not use."
    )


class BadSshKey(Invalid):
    code = "bad_ssh_key"
    title = Text("无法使用此公钥", "This key cannot be used")
    detail = Text("{reason}", "{reason}")


class WrongCredentials(Unauthenticated):
    code = "wrong_credentials"
    title = Text("用户名或密码错误", "Wrong username or password")
    detail = Text("请检查用户名和密码后重试。", "Check both and try again.")


class SessionOver(Unauthenticated):
    code = "session_over"
    title = Text("登录已失效", "This login is over")
    detail = Text("请重新登录。", "Log in again.")


class AccountDisabledNow(Forbidden):
    code = "account_disabled"
    title = Text("账号已停用", "The account is disabled")
    detail = Text(
        "原因：{reason}。如有疑问请联系管理员。", "Reason: {reason}. Contact an operator about it."
    )


class WrongPassword(Invalid):
    code = "wrong_password"
    title = Text("当前密码不正确", "The current password is not right")
    detail = Text("请重新输入当前密码。", "Enter your current password again.")


class PasswordUnchanged(Invalid):
    code = "password_unchanged"
    title = Text("新密码与当前密码相同", "The new password is the current one")
    detail = Text("请换一个新密码。", "Choose another password.")


class Busy(Unavailable):
    code = "busy"
    detail = Text(
        "登录请求过多，请稍后重试。", "Too many people log in right now. Try again in a moment."
    )


class TooManyAttempts(DomainError):
    code = "too_many_attempts"
    status = 429
    title = Text("尝试次数过多", "Too many attempts")
    detail = Text("请在 {retry_after_s} 秒后重试。", "Try again in {retry_after_s} seconds.")


class SubscriberTaken(Conflict):
    code = "subscriber_taken"
    title = Text("名称已被使用", "The name is taken")
    detail = Text(
        "已有名为 {name} 的外部程序。请换一个名称，或先删除它。",
        "There is an outside program called {name}. Choose another name, or remove it first.",
    )


class NeedsSplitShape(Conflict):
    code = "needs_split_shape"
    title = Text("此部署没有消息服务器", "This deployment has no message broker")
    detail = Text(
        "外部程序需要 RabbitMQ。请改用分布式部署，或为 auth 设置 broker_admin_url。",
        "Outside programs need RabbitMQ. Use the split deployment, or set auth's broker_admin_url.",
    )


class NoSuchFact(Invalid):
    code = "no_such_fact"
    title = Text("没有符合的事件", "No event fits")
    detail = Text(
        "没有事件符合 {pattern}；/api/asyncapi.json 列出所有事件。"
        "发给代理的命令和代理的报告不对外开放。",
        "No fact fits {pattern}; /api/asyncapi.json lists them all. "
        "Orders to agents and their reports are not told.",
    )


class TooManyTails(Unavailable):
    code = "too_many_tails"
    title = Text("同时查看事件的人过多", "Too many people watch events")
    detail = Text(
        "最多 {limit} 个同时查看，请先关闭一个。", "At most {limit} at a time. Close one first."
    )
