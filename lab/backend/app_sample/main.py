"""A sample App: a FastAPI service of its own with one skill. Run by `uvicorn app_sample.main:app`.

If INTERNAL_API_SHARED_TOKEN is set, skills answer only to callers that send it.
"""

import hmac
import os
from typing import Annotated

from backend.core.api.app import logs
from backend.core.api.app.redact import Redactor
from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel, Field

TOKEN = os.environ.get("INTERNAL_API_SHARED_TOKEN", "").strip()

redactor = Redactor()
redactor.register("INTERNAL_API_SHARED_TOKEN", TOKEN)
logs.configure(os.environ.get("LOG_LEVEL", "").upper() or "INFO", redactor)

app = FastAPI(title="OpenMates sample App", docs_url=None, redoc_url=None, openapi_url=None)


class Text(BaseModel):
    """What the echo skill takes and returns."""

    text: str = Field(max_length=1000)


def only_internal(x_internal_service_token: Annotated[str, Header()] = "") -> None:
    """Refuse a caller without the internal token, if there is one."""
    if TOKEN and not hmac.compare_digest(x_internal_service_token.encode(), TOKEN.encode()):
        raise HTTPException(401, "the internal token is missing or wrong")


@app.api_route("/health", methods=["GET", "HEAD"])
async def health() -> dict[str, str]:
    """Liveness."""
    return {"status": "ok"}


@app.get("/metadata")
async def metadata() -> dict:
    """What this App is and can do."""
    return {"name": "sample", "description": "Shows how an App is wired.", "skills": ["echo"], "focus_modes": []}


@app.post("/skills/echo", dependencies=[Depends(only_internal)])
async def echo(text: Text) -> Text:
    """Return the text."""
    return text
