"""Files and batches by the official OpenAI client, unmodified. Prints one JSON object; asserts nothing itself.

Arguments: the base URL, a token, another tenant's token, a model.
"""

import io
import json
import sys
import time

import openai

base_url, token, rival, model = sys.argv[1:5]
client = openai.OpenAI(base_url=base_url, api_key=token)
stranger = openai.OpenAI(base_url=base_url, api_key=rival)
lines = [
    {
        "custom_id": f"line-{number}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": model, "max_tokens": 5, "messages": [{"role": "user", "content": "hello there"}]},
    }
    for number in range(3)
]
content = "".join(json.dumps(line) + "\n" for line in lines).encode()
result = {}
file = client.files.create(file=("input.jsonl", io.BytesIO(content)), purpose="batch")
result["file"] = [file.purpose, file.bytes == len(content), file.filename]
result["same_bytes"] = client.files.content(file.id).read() == content
result["listed"] = [one.id for one in client.files.list(purpose="batch")] == [file.id]
batch = client.batches.create(
    input_file_id=file.id,
    endpoint="/v1/chat/completions",
    completion_window="24h",
    metadata={"team": "blue"},
)
result["made"] = [batch.input_file_id == file.id, batch.metadata, batch.output_file_id]
try:
    stranger.batches.retrieve(batch.id)
except openai.NotFoundError as error:
    result["stranger"] = error.code
seen = {batch.status}
deadline = time.monotonic() + 60
while batch.status not in ("completed", "failed") and time.monotonic() < deadline:
    time.sleep(0.1)
    batch = client.batches.retrieve(batch.id)
    seen.add(batch.status)
    assert (batch.output_file_id is None) == (batch.status != "completed"), batch
result["status"] = batch.status
result["counts"] = [batch.request_counts.total, batch.request_counts.completed]
output = client.files.content(batch.output_file_id).text
answers = [json.loads(line) for line in output.splitlines()]
result["answers"] = {one["custom_id"]: one["response"]["body"]["choices"][0]["message"]["content"] for one in answers}
result["batches"] = [one.id for one in client.batches.list()] == [batch.id]
try:
    stranger.files.content(batch.output_file_id)
except openai.NotFoundError as error:
    result["stranger_content"] = error.code
result["deleted"] = client.files.delete(file.id).deleted
print(json.dumps(result))
