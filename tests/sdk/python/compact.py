"""A conversation compacted by the unmodified official client, and gone on from."""

import json
import sys

import openai

base_url, token, model = sys.argv[1:4]
client = openai.OpenAI(base_url=base_url, api_key=token, max_retries=0)

first = client.responses.create(model=model, input="hello", max_output_tokens=10)
conversation = [{"role": "user", "content": "hello"}, *first.output]
compacted = client.responses.compact(model=model, input=conversation)
going_on = [item.model_dump(exclude_none=True) for item in compacted.output]
going_on.append({"role": "user", "content": "and?"})
second = client.responses.create(model=model, input=going_on, max_output_tokens=10)
print(json.dumps({"kinds": [item.type for item in compacted.output], "text": second.output_text}))
