"""Tools, schemas and images by the official clients for Python, unmodified. Prints one JSON object; asserts nothing itself.

Each client asks for the weather in two places, runs the calls that come back, and sends the results; once whole, once streamed.
Arguments: the gateway's URL without a path, a token, a model, a model for embeddings or nothing.
"""

import json
import sys

import anthropic
import openai
from google import genai
from google.genai import types
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

url, token, model, embedder = sys.argv[1:5]
ASK = "What is the weather in Paris and in Rome?"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
SKIES = {"Paris": "sun", "Rome": "rain"}
result = {}


class Report(BaseModel):
    city: str
    degrees: int


def weather(city: str) -> str:
    """The weather in a city."""
    return SKIES[city]


def chat():
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=token)
    function = {"name": "weather", "description": "The weather.", "parameters": PARAMETERS, "strict": True}
    options = dict(model=model, tools=[{"type": "function", "function": function}], max_tokens=200)
    messages = [{"role": "user", "content": ASK}]
    said = {}

    def results(calls):
        return [
            {"role": "tool", "tool_call_id": call.id, "content": weather(**json.loads(call.function.arguments))}
            for call in calls
        ]

    answer = client.chat.completions.create(messages=messages, parallel_tool_calls=True, **options).choices[0]
    calls = answer.message.tool_calls
    said["finish"] = answer.finish_reason
    again = client.chat.completions.create(messages=[*messages, answer.message, *results(calls)], **options)
    said["whole"] = again.choices[0].message.content
    with client.chat.completions.stream(messages=messages, **options) as stream:
        for _ in stream:
            pass
        message = stream.get_final_completion().choices[0].message
    with client.chat.completions.stream(
        messages=[*messages, message, *results(message.tool_calls)], **options
    ) as stream:
        for _ in stream:
            pass
        said["stream"] = stream.get_final_completion().choices[0].message.content
    none = client.chat.completions.create(messages=messages, tool_choice="none", **options)
    said["none"] = none.choices[0].message.content
    parsed = client.chat.completions.parse(
        model=model, messages=[{"role": "user", "content": "hello"}], response_format=Report, max_tokens=200
    )
    said["schema"] = parsed.choices[0].message.parsed.model_dump()
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    seen = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": [{"type": "text", "text": "look"}, image]}],
        max_tokens=200,
    )
    said["image"] = seen.choices[0].message.content
    if embedder:
        # Tokens in the place of texts, as langchain sends them; floats come back in base64.
        vectors = client.embeddings.create(model=embedder, input=[[9906, 11], [1917]])
        said["embedding"] = [vector.embedding[0] for vector in vectors.data], vectors.usage.prompt_tokens
    return said


def responses():
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=token)
    function = {"type": "function", "name": "weather", "description": "The weather.", "parameters": PARAMETERS, "strict": True}
    options = dict(model=model, tools=[function], max_output_tokens=200)
    said = {}

    def results(calls):
        return [
            {
                "type": "function_call_output",
                "call_id": call.call_id,
                "output": weather(**json.loads(call.arguments)),
            }
            for call in calls
        ]

    first = client.responses.create(input=ASK, **options)
    said["finish"] = [item.type for item in first.output]
    again = client.responses.create(previous_response_id=first.id, input=results(first.output), **options)
    said["whole"] = again.output_text
    with client.responses.stream(input=ASK, **options) as stream:
        for _ in stream:
            pass
        first = stream.get_final_response()
    with client.responses.stream(previous_response_id=first.id, input=results(first.output), **options) as stream:
        for _ in stream:
            pass
        said["stream"] = stream.get_final_response().output_text
    parsed = client.responses.parse(model=model, input="hello", text_format=Report, max_output_tokens=200)
    said["schema"] = parsed.output_parsed.model_dump()
    image = {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"}
    seen = client.responses.create(
        model=model,
        input=[{"role": "user", "content": [{"type": "input_text", "text": "look"}, image]}],
        max_output_tokens=200,
    )
    said["image"] = seen.output_text
    return said


def messages():
    client = anthropic.Anthropic(base_url=url, api_key=token, max_retries=0)
    options = dict(
        model=model, max_tokens=200, tools=[{"name": "weather", "description": "The weather.", "input_schema": PARAMETERS}]
    )
    asked = [{"role": "user", "content": ASK}]
    said = {}

    def results(content):
        return {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": block.id, "content": weather(**block.input)}
                for block in content
                if block.type == "tool_use"
            ],
        }

    def turn(answer):
        return [*asked, {"role": "assistant", "content": answer.content}, results(answer.content)]

    answer = client.messages.create(messages=asked, **options)
    said["finish"] = answer.stop_reason
    said["whole"] = client.messages.create(messages=turn(answer), **options).content[0].text
    with client.messages.stream(messages=asked, **options) as stream:
        answer = stream.get_final_message()
    with client.messages.stream(messages=turn(answer), **options) as stream:
        said["stream"] = stream.get_final_message().content[0].text
    none = client.messages.create(messages=asked, tool_choice={"type": "none"}, **options)
    said["none"] = none.content[0].text
    parsed = client.messages.parse(
        model=model, max_tokens=200, messages=[{"role": "user", "content": "hello"}], output_format=Report
    )
    said["schema"] = parsed.parsed_output.model_dump()
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    content = [{"type": "text", "text": "look"}, {"type": "image", "source": source}]
    seen = client.messages.create(model=model, max_tokens=200, messages=[{"role": "user", "content": content}])
    said["image"] = seen.content[0].text
    return said


def google():
    client = genai.Client(api_key=token, http_options=types.HttpOptions(base_url=url))
    declared = types.FunctionDeclaration(name="weather", description="The weather.", parameters_json_schema=PARAMETERS)
    config = types.GenerateContentConfig(max_output_tokens=200, tools=[types.Tool(function_declarations=[declared])])
    asked = types.Content(role="user", parts=[types.Part(text=ASK)])
    said = {}

    def results(content):
        return types.Content(
            role="user",
            parts=[
                types.Part(
                    function_response=types.FunctionResponse(
                        id=part.function_call.id,
                        name=part.function_call.name,
                        response={"output": weather(**part.function_call.args)},
                    )
                )
                for part in content.parts
                if part.function_call
            ],
        )

    answer = client.models.generate_content(model=model, contents=[asked], config=config).candidates[0]
    said["finish"] = answer.finish_reason.value
    again = client.models.generate_content(
        model=model, contents=[asked, answer.content, results(answer.content)], config=config
    )
    said["whole"] = again.text
    parts = []
    for chunk in client.models.generate_content_stream(model=model, contents=[asked], config=config):
        parts += chunk.candidates[0].content.parts or []
    content = types.Content(role="model", parts=parts)
    chunks = client.models.generate_content_stream(
        model=model, contents=[asked, content, results(content)], config=config
    )
    said["stream"] = "".join(chunk.text or "" for chunk in chunks)
    # The client itself runs the function and sends what it gave.
    automatic = types.GenerateContentConfig(max_output_tokens=200, tools=[weather])
    said["automatic"] = client.models.generate_content(model=model, contents=ASK, config=automatic).text
    schema = types.GenerateContentConfig(
        max_output_tokens=200, response_mime_type="application/json", response_schema=Report
    )
    said["schema"] = client.models.generate_content(model=model, contents="hello", config=schema).parsed.model_dump()
    import base64

    image = types.Part.from_bytes(data=base64.b64decode(PIXEL), mime_type="image/png")
    config = types.GenerateContentConfig(max_output_tokens=200)
    said["image"] = client.models.generate_content(model=model, contents=["look", image], config=config).text
    return said


def langchain():
    told = tool(weather)
    llm = ChatOpenAI(base_url=f"{url}/v1", api_key=token, model=model, max_tokens=200, stream_usage=True)
    bound = llm.bind_tools([told])
    asked = [HumanMessage(ASK)]
    said = {}

    def results(answer):
        return [ToolMessage(told.invoke(call["args"]), tool_call_id=call["id"]) for call in answer.tool_calls]

    answer = bound.invoke(asked)
    said["finish"] = answer.response_metadata["finish_reason"]
    said["whole"] = bound.invoke([*asked, answer, *results(answer)]).content
    answer = None
    for chunk in bound.stream(asked):
        answer = chunk if answer is None else answer + chunk
    said["stream"] = "".join(chunk.content for chunk in bound.stream([*asked, answer, *results(answer)]))
    said["schema"] = llm.with_structured_output(Report).invoke("hello").model_dump()
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    said["image"] = llm.invoke([HumanMessage([{"type": "text", "text": "look"}, image])]).content
    said["usage"] = answer.usage_metadata is not None
    if embedder:
        options = dict(base_url=f"{url}/v1", api_key=token, model=embedder)
        # Its tokenizer comes from the network, so here it sends texts.
        embed = OpenAIEmbeddings(check_embedding_ctx_length=False, **options)
        said["embedding"] = [len(vector) for vector in embed.embed_documents(["one", "two"])]
    return said


for client in [chat, responses, messages, google, langchain]:
    try:
        result[client.__name__] = client()
    except Exception as error:  # told, and judged by who reads it
        import traceback

        result[client.__name__] = {"error": f"{type(error).__name__}: {error}", "at": traceback.format_exc()[-800:]}
print(json.dumps(result))
