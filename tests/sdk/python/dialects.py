"""The official clients of three dialects, unmodified, against the gateway. Prints one JSON object; asserts nothing itself.

Arguments: the gateway's URL without a path, a good token, a model.
"""

import json
import sys

import anthropic
import openai
from google import genai
from google.genai import errors as genai_errors
from google.genai import types

url, token, model = sys.argv[1:4]
result = {}


def class_of(call):
    try:
        call()
    except (anthropic.APIStatusError, openai.APIStatusError) as error:
        return [type(error).__name__, error.status_code, bool(error.request_id)]
    except genai_errors.APIError as error:
        return [type(error).__name__, error.code, bool(error.message)]
    return None


# OpenAI
client = openai.OpenAI(base_url=f"{url}/v1", api_key=token)
ask = dict(model=model, messages=[{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hello"}])
answer = client.chat.completions.create(**ask, max_tokens=10)
chunks = list(client.chat.completions.create(**ask, max_tokens=10, stream=True, stream_options={"include_usage": True}))
result["openai"] = {
    "text": answer.choices[0].message.content,
    "finish": answer.choices[0].finish_reason,
    "usage": [answer.usage.prompt_tokens, answer.usage.completion_tokens],
    "stream": "".join(c.choices[0].delta.content or "" for c in chunks if c.choices),
    "stream_finish": [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason],
    "stream_usage": [[c.usage.prompt_tokens, c.usage.completion_tokens] for c in chunks if c.usage],
    "unknown": class_of(lambda: client.chat.completions.create(**{**ask, "model": "nobody"})),
    "bad": class_of(lambda: client.chat.completions.create(**ask, max_tokens=-1)),
}

# Anthropic
client = anthropic.Anthropic(base_url=url, api_key=token, max_retries=0)
ask = dict(model=model, max_tokens=10, system="Be kind.", messages=[{"role": "user", "content": "hello"}])
answer = client.messages.create(**ask)
with client.messages.stream(**ask) as stream:
    text = "".join(stream.text_stream)
    last = stream.get_final_message()
stranger = anthropic.Anthropic(base_url=url, api_key="nobody", max_retries=0)
result["anthropic"] = {
    "text": answer.content[0].text,
    "finish": answer.stop_reason,
    "usage": [answer.usage.input_tokens, answer.usage.output_tokens],
    "stream": text,
    "stream_finish": [last.stop_reason],
    "stream_usage": [[last.usage.input_tokens, last.usage.output_tokens]],
    "unknown": class_of(lambda: client.messages.create(**{**ask, "model": "nobody"})),
    "bad": class_of(lambda: client.messages.create(**{**ask, "max_tokens": 0})),
    "stranger": class_of(lambda: stranger.messages.create(**ask)),
    "counted": client.messages.count_tokens(model=model, messages=ask["messages"]).input_tokens > 0,
}

# Google
client = genai.Client(api_key=token, http_options=types.HttpOptions(base_url=url))
config = types.GenerateContentConfig(max_output_tokens=10, system_instruction="Be kind.")
answer = client.models.generate_content(model=model, contents="hello", config=config)
chunks = list(client.models.generate_content_stream(model=model, contents="hello", config=config))
counted = [c.usage_metadata for c in chunks if c.usage_metadata and c.usage_metadata.candidates_token_count]
result["google"] = {
    "text": answer.text,
    "finish": answer.candidates[0].finish_reason.value,
    "usage": [answer.usage_metadata.prompt_token_count, answer.usage_metadata.candidates_token_count],
    "stream": "".join(c.text or "" for c in chunks),
    "stream_finish": [c.candidates[0].finish_reason.value for c in chunks if c.candidates and c.candidates[0].finish_reason],
    "stream_usage": [[counted[-1].prompt_token_count, counted[-1].candidates_token_count]],
    "unknown": class_of(lambda: client.models.generate_content(model="nobody", contents="hello")),
}

print(json.dumps(result))
