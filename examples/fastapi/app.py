"""A FastAPI app behind the gate: who you are, and calls to your provider's API that never fail for an old token.

    uvicorn app:app --host 127.0.0.1 --port 9000

Behind a gate, its environment says where that is (docs/session-api.md). Without one, nobody is signed in.
"""

import os
from pathlib import Path
from typing import Annotated, Any

import freshgate
import httpx
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, JSONResponse

app = FastAPI()
api = httpx.AsyncClient(trust_env=False)


async def signed_in(request: Request) -> freshgate.AsyncUser:
    """Who sent the request. Those who are not signed in get no further."""
    user = await freshgate.async_user(request)
    if user is None:
        raise HTTPException(401, "sign in first")
    return user


SignedIn = Annotated[freshgate.AsyncUser, Depends(signed_in)]


@app.get("/")
async def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("page.html"))


@app.get("/me")
async def me(user: SignedIn) -> dict[str, Any]:
    return user.claims


@app.post("/refresh")
async def refresh(user: SignedIn) -> dict[str, Any]:
    await user.refresh()
    return user.claims  # as the provider has them now


@app.post("/call")
async def call(user: SignedIn) -> int:
    """Calls the provider's API. However long ago the user signed in, the token is good."""
    address = os.environ.get("API_URL") or f"{user.claims['iss']}/api/quote"
    answer = await api.get(address, headers={"Authorization": f"Bearer {await user.access_token()}"})
    return answer.status_code


@app.exception_handler(freshgate.SignInAgain)
async def over(_: Request, error: freshgate.SignInAgain) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 401)


@app.exception_handler(freshgate.TryLater)
async def later(_: Request, error: freshgate.TryLater) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 503, {"Retry-After": f"{error.retry_after:.0f}"})
