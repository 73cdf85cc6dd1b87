"""FastAPI by hand: the way most people begin (JSON), and the way an expert would do it (bytes)."""

import os
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from model import Model
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

app = FastAPI()
model = Model()


class Question(BaseModel):
    """A flat list."""

    data: list[float]


@app.post("/json")  # type: ignore[untyped-decorator] # it has no types here
def ask_json(question: Question) -> dict[str, Any]:
    """Answer JSON."""
    return {"data": model.from_list(question.data).ravel().tolist()}


@app.post("/raw")  # type: ignore[untyped-decorator]
async def ask_raw(request: Request) -> Response:
    """Answer bytes."""
    body = await request.body()
    result = await run_in_threadpool(model.from_bytes, body)
    return Response(result.tobytes(), media_type="application/octet-stream")


uvicorn.run(app, host="127.0.0.1", port=int(os.environ["BENCH_PORT"]), log_level="warning")
