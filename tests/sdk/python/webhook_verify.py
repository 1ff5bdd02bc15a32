"""The official Standard Webhooks library for Python, unmodified, on webhooks as they were received. Prints one JSON object; asserts nothing itself.

Arguments: the secret, and a file with a JSON list of {"headers", "body"}.
"""

import json
import sys

from standardwebhooks import Webhook, WebhookVerificationError

secret, path = sys.argv[1:3]


def verified(body, headers):
    try:
        return Webhook(secret).verify(body, headers)
    except WebhookVerificationError as error:
        return {"refused": str(error)}


with open(path, encoding="utf-8") as file:
    received = json.load(file)

print(
    json.dumps(
        {
            "verified": [verified(one["body"], one["headers"]) for one in received],
            "altered": [verified(one["body"] + " ", one["headers"]) for one in received],
        }
    )
)
