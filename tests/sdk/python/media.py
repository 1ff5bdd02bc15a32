"""The official OpenAI client for Python, unmodified: images, audio and moderations. Prints one JSON object; asserts nothing itself.

Arguments: base URL, a token, the path of a recording.
"""

import base64
import json
import sys

import openai

base_url, token, recording = sys.argv[1:4]
client = openai.OpenAI(base_url=base_url, api_key=token, max_retries=0)
png = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
result = {}

made = client.images.generate(model="painter", prompt="a red fox", n=2, size="1024x1024", quality="low")
result["image"] = {
    "images": len(made.data),
    "output_tokens": made.usage.output_tokens,
    "bytes": all(base64.b64decode(image.b64_json) for image in made.data),
}

with client.images.generate(
    model="painter", prompt="a red fox", size="1024x1024", quality="low", stream=True, partial_images=2
) as stream:
    result["image_stream"] = [event.type for event in stream]

edited = client.images.edit(model="painter", prompt="bluer", image=[("a.png", png), ("b.png", png)], size="1024x1024")
result["edit"] = {"images": len(edited.data), "image_tokens": edited.usage.input_tokens_details.image_tokens}

with client.audio.speech.with_streaming_response.create(
    model="speaker", voice="alloy", input="hello there", response_format="pcm"
) as speech:
    result["speech"] = sum(len(piece) for piece in speech.iter_bytes())

with client.audio.speech.with_streaming_response.create(
    model="speaker", voice="alloy", input="hello there", stream_format="sse"
) as speech:
    lines = [line for line in speech.iter_lines() if line.startswith("data:")]
result["speech_stream"] = sorted({json.loads(line[5:])["type"] for line in lines})

with open(recording, "rb") as file:
    heard = client.audio.transcriptions.create(model="ear", file=file)
result["transcript"] = {"text": heard.text, "seconds": heard.usage.seconds}

with open(recording, "rb") as file:
    result["transcript_text"] = client.audio.transcriptions.create(model="ear", file=file, response_format="vtt")[:6]

with open(recording, "rb") as file:
    events = client.audio.transcriptions.create(model="scribe", file=file, stream=True)
    result["transcript_stream"] = "".join(event.delta for event in events if event.type == "transcript.text.delta")

with open(recording, "rb") as file:
    result["translation"] = client.audio.translations.create(model="ear", file=file).text

moderated = client.moderations.create(input="a text")
result["moderation"] = {"flagged": moderated.results[0].flagged, "results": len(moderated.results)}

try:
    client.images.generate(model="painter", prompt="a fox", n=50)
except openai.APIStatusError as error:
    result["bad"] = {"class": type(error).__name__, "param": error.param}

print(json.dumps(result))
