"""How commands hang together: the desk from the context, `--json` anywhere, problems as exit 1."""

from typing import Any, cast

import typer
from typer.core import TyperGroup

from cli.client import ClientError
from cli.output import Desk


class CommandGroup(TyperGroup):
    """Lets `--json` stand anywhere before `--`, and prints what went wrong."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        head, tail = args[:end], args[end:]
        if ctx.parent is None and "--json" in head:
            args = ["--json", *(word for word in head if word != "--json"), *tail]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ClientError as error:
            if ctx.parent is not None:
                raise
            desk_of(ctx).output.problem(error)
            raise typer.Exit(1) from error


def desk_of(ctx: typer.Context) -> Desk:
    return cast(Desk, ctx.find_root().obj)
