"""Responses through the unmodified official client: created, continued, streamed, listed, removed."""

import json
import sys

import openai

base_url, token, model = sys.argv[1:4]
client = openai.OpenAI(base_url=base_url, api_key=token, max_retries=0)

first = client.responses.create(model=model, input="hello", max_output_tokens=10)
second = client.responses.create(model=model, input="and?", previous_response_id=first.id, max_output_tokens=10)

streamed = []
with client.responses.stream(model=model, input="more?", previous_response_id=second.id) as stream:
    for event in stream:
        if event.type == "response.output_text.delta":
            streamed.append(event.delta)
    final = stream.get_final_response()

retrieved = client.responses.retrieve(first.id)
items = list(client.responses.input_items.list(first.id))
client.responses.delete(first.id)


def error_of(call):
    try:
        call()
    except openai.APIStatusError as error:
        return error
    return None


gone = error_of(lambda: client.responses.retrieve(first.id))
unknown = error_of(lambda: client.responses.create(model=model, input="x", previous_response_id="resp_unknown"))
print(
    json.dumps(
        {
            "text": first.output_text,
            "continued": second.output_text,
            "streamed": "".join(streamed),
            "final": final.output_text,
            "retrieved": retrieved.output_text == first.output_text and retrieved.id == first.id,
            "items": len(items),
            "gone": type(gone).__name__,
            "unknown": [type(unknown).__name__, unknown.code],
        }
    )
)
