"""A product's backend. It logs its users in and gives each page a client secret; the tenant token never leaves it."""

import hmac
import json
import os
import secrets
import urllib.request
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TOKEN = os.environ["OPENCLAWMU_TOKEN"]
GATEWAY = os.environ.get("OPENCLAWMU_URL", "http://localhost:8080")
MODEL = os.environ.get("MODEL", "echo")
PORT = int(os.environ.get("PORT", "8000"))
ORIGIN = f"http://localhost:{PORT}"
PASSWORD = os.environ.get("DEMO_PASSWORD") or secrets.token_urlsafe(9)
FILES = {"/": ("index.html", "text/html; charset=utf-8"), "/chat.js": ("chat.js", "text/javascript; charset=utf-8")}
SESSIONS = {}  # a real product has its own


def client_secret(user):
    """A secret for this page and this user alone: ten minutes, one model, a quarter of a dollar."""
    asked = {"origin": ORIGIN, "user": user, "models": [MODEL], "ttl_seconds": 600, "max_cost_usd": "0.25"}
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    call = urllib.request.Request(f"{GATEWAY}/v1/client_secrets", json.dumps(asked).encode(), headers)
    with urllib.request.urlopen(call, timeout=10) as answer:
        return {"secret": json.load(answer)["value"], "model": MODEL, "base_url": f"{GATEWAY}/v1"}


class Backend(BaseHTTPRequestHandler):
    def do_GET(self):
        name, kind = FILES.get(self.path, (None, "text/plain"))
        body = (Path(__file__).parent / name).read_bytes() if name else b"There is no such page.\n"
        self.answer(200 if name else 404, body, ("Content-Type", kind))

    def do_POST(self):
        if self.headers.get("Origin") != ORIGIN:  # a page of another site
            return self.answer_json(403, {"error": "This is not for your page."})
        body = self.rfile.read(min(int(self.headers.get("Content-Length", 0)), 4096))
        session = SimpleCookie(self.headers.get("Cookie", "")).get("session")
        user = SESSIONS.get(session.value) if session else None
        if self.path == "/login":
            asked = json.loads(body)
            if not hmac.compare_digest(str(asked.get("password")).encode(), PASSWORD.encode()):
                return self.answer_json(401, {"error": "Wrong password."})
            session = secrets.token_urlsafe(32)
            SESSIONS[session] = str(asked.get("user"))
            return self.answer_json(200, {}, ("Set-Cookie", f"session={session}; Path=/; HttpOnly; SameSite=Strict"))
        if self.path != "/client-secret" or user is None:
            return self.answer_json(401, {"error": "Log in first."})
        try:
            self.answer_json(200, client_secret(user))
        except OSError as error:  # refused, or nobody there: the log says why, the page need not know
            print(f"no client secret: {error}")
            self.answer_json(502, {"error": "The gateway gives no client secret."})

    def answer_json(self, status, value, *headers):
        self.answer(status, json.dumps(value).encode(), ("Content-Type", "application/json"), *headers)

    def answer(self, status, body, *headers):
        policy = f"default-src 'self'; connect-src 'self' {GATEWAY}; frame-ancestors 'none'"
        self.send_response(status)
        for name, value in (*headers, ("Content-Length", str(len(body))), ("Content-Security-Policy", policy)):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


print(f"Open {ORIGIN} and log in as anybody; the password is {PASSWORD}", flush=True)
ThreadingHTTPServer(("127.0.0.1", PORT), Backend).serve_forever()
