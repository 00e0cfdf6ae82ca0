"""Whether the process lives (`/healthz`) and whether it takes changes (`/readyz`)."""

from __future__ import annotations

from litestar import Response, get

from thunderline import __version__
from thunderline.gate.bodies import HealthBody, answer, encode
from thunderline.gate.openapi import documented
from thunderline.gate.parameters import Reg


@get("/healthz", tags=["health"], opt=documented("That the process answers.", answers={200: HealthBody}))
async def healthz(registry: Reg) -> Response[bytes]:
    return answer(encode(HealthBody(status="alive", version=__version__)), registry)


@get(
    "/readyz",
    tags=["health"],
    opt=documented("That changes are taken; 503 while the store is away.", answers={200: HealthBody}, errors=(503,)),
)
async def readyz(registry: Reg) -> Response[bytes]:
    registry.check_ready()
    return answer(encode(HealthBody(status="ready", version=__version__)), registry)
