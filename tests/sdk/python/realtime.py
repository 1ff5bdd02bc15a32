"""A conversation by the official OpenAI client, unmodified. Prints one JSON object; asserts nothing itself.

Arguments: the base URL, a good token, a token whose budget is spent.
"""

import json
import sys

import openai
from websockets.exceptions import InvalidStatus

base_url, token, spent = sys.argv[1:4]
result = {"texts": [], "usage": [], "calls": []}


def response(connection):
    text = ""
    for event in connection:
        if event.type == "response.output_text.delta":
            text += event.delta
        elif event.type == "response.done":
            result["texts"].append(text)
            result["usage"].append([event.response.usage.input_tokens, event.response.usage.output_tokens])
            result["calls"] += [item.name for item in event.response.output if item.type == "function_call"]
            return


client = openai.OpenAI(base_url=base_url, api_key=token)
with client.realtime.connect(model="voice") as connection:
    result["model"] = connection.recv().session.model
    connection.session.update(session={"type": "realtime", "tools": [{"type": "mcp", "server_label": "x"}]})
    result["error"] = connection.recv().error.param
    connection.session.update(
        session={"type": "realtime", "output_modalities": ["text"], "tools": [{"type": "function", "name": "look"}]}
    )
    connection.conversation.item.create(
        item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello."}]}
    )
    for _ in range(2):
        connection.response.create()
        response(connection)

try:
    with openai.OpenAI(base_url=base_url, api_key=spent).realtime.connect(model="voice"):
        result["refused"] = None
except InvalidStatus as error:
    result["refused"] = error.response.status_code
except openai.APIStatusError as error:
    result["refused"] = error.status_code
print(json.dumps(result))
