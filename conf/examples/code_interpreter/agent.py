"""A model that runs code where its tenant's code runs: the official SDK, one function, a loop."""

import json
import os
import pathlib
import sys

from openai import OpenAI

gateway = os.environ.get("OPENCLAWMU_URL", "http://127.0.0.1:8080")
client = OpenAI(base_url=f"{gateway}/v1", api_key=os.environ["OPENCLAWMU_TOKEN"])
tool = json.loads(pathlib.Path(__file__).with_name("tool.json").read_text())


def run(arguments):
    """Runs what the model wrote; how it ended goes back to the model, errors too."""
    try:
        told = client.post("/sandbox/exec", cast_to=object, body=json.loads(arguments) | {"timeout_seconds": 60})
        return {key: told[key] for key in ("outcome", "exit_code", "stdout", "stderr")}
    except Exception as error:
        return {"error": str(error)}


messages = [{"role": "user", "content": " ".join(sys.argv[1:])}]
for _ in range(10):
    reply = client.chat.completions.create(model=os.environ.get("MODEL", "gpt-4o"), messages=messages, tools=[tool])
    message = reply.choices[0].message
    messages.append(message.model_dump(exclude_none=True))
    for call in message.tool_calls or []:
        result = json.dumps(run(call.function.arguments))
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    if not message.tool_calls:
        print(message.content)
        break
