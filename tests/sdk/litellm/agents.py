"""LiteLLM as a client, unmodified: tools, schemas and images in two dialects. Prints one JSON object; asserts nothing itself.

Arguments: the gateway's URL without a path, a token, a model, a model for embeddings.
"""

import json
import os
import sys
import traceback

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm  # noqa: E402
from pydantic import BaseModel  # noqa: E402

litellm.telemetry = False
litellm.suppress_debug_info = True
url, token, model, embedder = sys.argv[1:5]
ASK = [{"role": "user", "content": "What is the weather in Paris and in Rome?"}]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": PARAMETERS}}]
SKIES = {"Paris": "sun", "Rome": "rain"}


class Report(BaseModel):
    city: str
    degrees: int


def agent(provider, base):
    options = dict(model=f"{provider}/{model}", api_base=base, api_key=token, max_tokens=200, num_retries=0)

    def turn(message):
        results = [
            {
                "role": "tool",
                "tool_call_id": call.id,
                "content": SKIES[json.loads(call.function.arguments)["city"]],
            }
            for call in message.tool_calls
        ]
        return [*ASK, message, *results]

    said = {}
    choice = litellm.completion(messages=ASK, tools=TOOLS, **options).choices[0]
    said["finish"] = choice.finish_reason
    whole = litellm.completion(messages=turn(choice.message), tools=TOOLS, **options)
    said["whole"] = whole.choices[0].message.content
    chunks = list(litellm.completion(messages=ASK, tools=TOOLS, stream=True, **options))
    first = litellm.stream_chunk_builder(chunks, messages=ASK).choices[0].message
    chunks = litellm.completion(messages=turn(first), tools=TOOLS, stream=True, **options)
    said["stream"] = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    hello = [{"role": "user", "content": "hello"}]
    schema = {"name": "report", "strict": True, "schema": {**Report.model_json_schema(), "additionalProperties": False}}
    parsed = litellm.completion(
        messages=hello, response_format={"type": "json_schema", "json_schema": schema}, **options
    )
    said["schema"] = json.loads(parsed.choices[0].message.content)
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    content = [{"type": "text", "text": "look"}, image]
    seen = litellm.completion(messages=[{"role": "user", "content": content}], **options)
    said["image"] = seen.choices[0].message.content
    return said


def error(**changes):
    options = dict(model=f"openai/{model}", api_base=f"{url}/v1", api_key=token, max_tokens=20, num_retries=0)
    try:
        litellm.completion(messages=[{"role": "user", "content": "hello"}], **{**options, **changes})
    except Exception as error:
        return [type(error).__name__, getattr(error, "status_code", str(error))]


def embedding():
    answer = litellm.embedding(
        model=f"openai/{embedder}", input=["one", "two"], api_base=f"{url}/v1", api_key=token, encoding_format="float"
    )
    return [len(answer.data[0]["embedding"]), len(answer.data)]


def told(call):
    try:
        return call()
    except Exception as error:  # told, and judged by who reads it
        return {"error": f"{type(error).__name__}: {error}", "at": traceback.format_exc()[-800:]}


print(
    json.dumps(
        {
            "openai": told(lambda: agent("openai", f"{url}/v1")),
            "anthropic": told(lambda: agent("anthropic", url)),
            "errors": [error(model="openai/nobody"), error(api_key="nobody"), error(max_tokens=-1)],
            "embedding": told(embedding),
        }
    )
)
