"""Responses over a WebSocket by the official OpenAI client, unmodified. Prints one JSON object; asserts nothing itself.

Arguments: the base URL, a token, a model.
"""

import json
import sys

import openai
from openai.lib.responses_websocket import ResponsesWebSocketLimits, ResponsesWebSocketSession

base_url, token, model = sys.argv[1:4]
client = openai.OpenAI(base_url=base_url, api_key=token)
result = {"texts": []}
ask = {"type": "response.create", "model": model, "store": False, "max_output_tokens": 10}


def response(connection):
    text = ""
    for event in connection:
        if event.type == "response.output_text.delta":
            text += event.delta
        elif event.type == "response.completed":
            result["texts"].append(text)
            return event.response


with client.responses.connect() as connection:
    connection.send({**ask, "input": "hello"})
    first = response(connection)
    connection.send({**ask, "input": "and?", "previous_response_id": first.id})
    result["continued"] = response(connection).previous_response_id == first.id
    connection.send({**ask, "input": "x", "previous_response_id": "resp_unknown"})
    error = connection.recv().to_dict()
    result["error"] = [error["status"], error["error"]["code"]]

limits = ResponsesWebSocketLimits(
    max_lanes=2, max_events_per_lane=128, max_events=128, max_bytes_per_lane=1 << 20, max_bytes=1 << 20
)
with client.responses.connect() as connection:
    with ResponsesWebSocketSession(connection, limits=limits) as session:
        lane = session.lane("one")
        lane.send({**ask, "input": "hello"})
        result["final"] = lane.get_final_response().output_text
print(json.dumps(result))
