"""Responses in the background through the unmodified official client: polled, followed, cancelled."""

import json
import sys
import time

import openai

base_url, token, model = sys.argv[1:4]
client = openai.OpenAI(base_url=base_url, api_key=token, max_retries=0)

response = client.responses.create(model=model, input="hello", background=True, max_output_tokens=10)
while response.status in ("queued", "in_progress"):
    time.sleep(0.05)
    response = client.responses.retrieve(response.id)

followed = []
for event in client.responses.retrieve(response.id, stream=True, starting_after=1):
    if event.type == "response.output_text.delta":
        followed.append(event.delta)

endless = client.responses.create(model=model, input="for ever", background=True, max_output_tokens=10)
cancelled = client.responses.cancel(endless.id)
print(json.dumps({"polled": response.output_text, "followed": "".join(followed), "cancelled": cancelled.status}))
