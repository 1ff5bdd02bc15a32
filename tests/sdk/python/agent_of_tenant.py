"""The official OpenAI client for Python, unmodified, talks to a tenant's own agent. Prints one JSON object; asserts nothing itself.

Arguments: base URL, token, the agent as a model.
"""

import json
import sys

import openai

url, token, model = sys.argv[1:4]
client = openai.OpenAI(base_url=url, api_key=token, max_retries=0)
options = dict(
    model=model,
    messages=[{"role": "user", "content": "Hello"}],
    max_tokens=50,
    metadata={"session": "sdk"},
)

raw = client.chat.completions.with_raw_response.create(**options)
whole = raw.parse()
result = {"whole": {"text": whole.choices[0].message.content, "tokens": whole.usage.total_tokens}}
names = ["x-openclawmu-cost-usd", "x-openclawmu-budget-remaining-usd"]
result["headers"] = [raw.headers.get("x-openclawmu-model"), *(name in raw.headers for name in names)]

text, finish, usage = "", None, None
with client.chat.completions.create(
    stream=True,
    stream_options={"include_usage": True},
    extra_headers={"x-openclawmu-session": "sdk-stream"},
    **{**options, "metadata": {"team": "blue"}},
) as stream:
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
result["stream"] = {"text": text, "finish": finish, "tokens": usage.total_tokens}

print(json.dumps(result))
