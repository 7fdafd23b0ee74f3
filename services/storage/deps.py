"""What routes are given."""

from typing import Annotated

from fastapi import Depends, Query, Request

from services.storage.domain.path import Names, parse
from services.storage.quota import Volumes
from services.storage.sftp.door import PublicAddress
from services.storage.volume import Volume
from shared.policy import Caller


def _volumes(request: Request) -> Volumes:
    volumes: Volumes = request.app.state.volumes
    return volumes


VolumesDep = Annotated[Volumes, Depends(_volumes)]


def _sftp(request: Request) -> PublicAddress | None:
    address: PublicAddress | None = request.app.state.sftp_public
    return address


SftpDep = Annotated[PublicAddress | None, Depends(_sftp)]


def _own_volume(caller: Caller, volumes: VolumesDep) -> Volume:
    return volumes.of(caller.id)


def _names(path: Annotated[str, Query(min_length=1, max_length=4096)] = "/") -> Names:
    return parse(path)


OwnVolume = Annotated[Volume, Depends(_own_volume)]
Path = Annotated[Names, Depends(_names)]
