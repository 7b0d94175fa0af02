"""FastAPI and sentence-transformers as one writes it: one encode for each request, in FastAPI's threads.

Run with uvicorn in an environment of its own; imports nothing of this project. MODEL_DIR names the model's folder.
"""

import os
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer

app = FastAPI()
model = SentenceTransformer(os.environ["MODEL_DIR"], device="cpu")


class EmbeddingRequest(BaseModel):
    """What OpenAI's clients send."""

    model: str
    input: str


@app.post("/v1/embeddings")  # type: ignore[untyped-decorator]  # FastAPI is installed elsewhere
def embeddings(request: EmbeddingRequest) -> dict[str, Any]:
    """Embed one text."""
    vector = model.encode(request.input)
    return {"object": "list", "model": request.model, "data": [{"index": 0, "embedding": vector.tolist()}]}
