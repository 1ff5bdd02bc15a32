"""The official OpenAI client for Python, unmodified, against the gateway. Prints one JSON object; asserts nothing itself.

Arguments: base URL, a good token, a token whose budget is spent, a token that may call only `alpha`, a token with a low request rate, and
the mode: `all`; `spent`, only the two calls on the spent budget, so that they can be counted; `wire`, only good answers.
"""

import json
import sys

import openai

base_url, good, spent, narrow, limited, mode = sys.argv[1:7]


def client(token, **options):
    return openai.OpenAI(base_url=base_url, api_key=token, **options)


def error_of(call):
    try:
        call()
    except openai.APIStatusError as error:
        body = error.body if isinstance(error.body, dict) else {}
        return {
            "class": type(error).__name__,
            "status": error.status_code,
            "code": error.code,
            "type": error.type,
            "has_message": bool(body.get("message")),
            "request_id": bool(error.request_id),
        }
    except openai.APIError as error:
        return {"class": type(error).__name__, "message": str(error)}
    return None


def ask(token, model="alpha", content="hello", **options):
    retries = {"max_retries": options.pop("max_retries")} if "max_retries" in options else {}
    return client(token, **retries).chat.completions.create(
        model=model, messages=[{"role": "user", "content": content}], max_tokens=10, **options
    )


if mode == "spent":
    print(json.dumps({"whole": error_of(lambda: ask(spent)), "stream": error_of(lambda: ask(spent, stream=True))}))
    sys.exit(0)

result = {"version": openai.__version__}

answer = ask(good)
result["chat"] = {
    "text": answer.choices[0].message.content,
    "finish": answer.choices[0].finish_reason,
    "prompt": answer.usage.prompt_tokens,
    "completion": answer.usage.completion_tokens,
    "request_id": bool(answer._request_id),
}

with ask(good, stream=True) as stream:
    chunks = list(stream)
result["stream"] = {
    "text": "".join(chunk.choices[0].delta.content or "" for chunk in chunks),
    "usage_chunks": sum(chunk.usage is not None for chunk in chunks),
    "finish": chunks[-1].choices[0].finish_reason,
}

with ask(good, stream=True, stream_options={"include_usage": True}) as stream:
    chunks = list(stream)
result["stream_with_usage"] = {
    "usage_chunks": sum(chunk.usage is not None for chunk in chunks),
    "total": chunks[-1].usage.total_tokens,
    "choices_of_last": len(chunks[-1].choices),
}

vectors = client(good).embeddings.create(model="embed", input=["one", "two"])
result["embeddings"] = {"vectors": [item.embedding for item in vectors.data], "prompt": vectors.usage.prompt_tokens}

completion = client(good).completions.create(model="instruct", prompt="once upon a time", max_tokens=10)
result["completion"] = {"text": completion.choices[0].text}

if mode == "wire":
    print(json.dumps(result))
    sys.exit(0)

result["models"] = sorted(model.id for model in client(good).models.list())
result["model"] = client(good).models.retrieve("alpha").id

result["errors"] = {
    "no_token": error_of(lambda: ask("tk_nobody")),
    "forbidden_model": error_of(lambda: ask(narrow, model="beta")),
    "unknown_model": error_of(lambda: ask(good, model="nobody")),
    "bad_request": error_of(lambda: client(good).chat.completions.create(model="alpha", messages=[{"role": "user", "content": "x"}], max_tokens=-1)),
    "upstream_down": error_of(lambda: ask(good, content="please-fail-500", max_retries=0)),
    "broken_stream": error_of(lambda: list(ask(good, content="please-break", stream=True))),
}

result["retried"] = ask(good, content="please-limit-once").choices[0].message.content
result["limited"] = [ask(limited, content="quick").choices[0].finish_reason for _ in range(32)]

print(json.dumps(result))
