"""How an instance is answered, in the caller's language."""

from typing import Annotated

from fastapi import Depends
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler import reading
from services.scheduler.api.schemas import InstanceView
from services.scheduler.calling_out import Answering
from services.scheduler.deps import ToolsDep
from services.scheduler.models import Instance
from shared.app import CallerLanguage
from shared.idempotency import IdempotencyKey
from shared.policy import Caller


class Answers:
    def __init__(
        self,
        caller: Caller,
        tools: ToolsDep,
        language: CallerLanguage,
        idempotency_key: IdempotencyKey = None,
    ) -> None:
        self._owner_id = caller.id
        self._key = idempotency_key
        self._language = language
        self._retention_s = tools.settings.retention_s

    def of(self, shown: reading.Shown) -> InstanceView:
        return InstanceView.of(shown, self._language, self._retention_s)

    async def view(self, session: AsyncSession, instance: Instance) -> InstanceView:
        return self.of((await reading.show(session, [instance]))[0])

    def kept(self, operation: str, request: BaseModel) -> Answering[InstanceView]:
        """Under the caller's idempotency key, if there is one."""
        return Answering(
            owner_id=self._owner_id,
            key=self._key,
            operation=operation,
            request=request,
            answer_type=InstanceView,
            view=self.view,
        )


AnswersDep = Annotated[Answers, Depends()]
