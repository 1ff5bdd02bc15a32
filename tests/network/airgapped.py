"""A gateway in a network of its own, in which every address is this machine's, so that whatever it calls is recorded here: names
that are looked up, and addresses that are connected to. Prints one JSON object; asserts nothing itself.

Runs as root of a user, mount and network namespace (`unshare --map-root-user --net --mount`).
Arguments: the gateway's program, its configuration, a directory, a model.
"""

import http.server
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

program, config, directory, model = sys.argv[1:5]
INSIDE = "127.0.0.9"
names, connections = set(), set()


def prepare():
    resolv = os.path.join(directory, "resolv.conf")
    with open(resolv, "w") as file:
        file.write("nameserver 127.0.0.1\n")
    for command in (
        ["mount", "--bind", resolv, os.path.realpath("/etc/resolv.conf")],
        ["ip", "link", "set", "lo", "up"],
        ["ip", "route", "add", "local", "0.0.0.0/0", "dev", "lo"],
    ):
        subprocess.run(command, check=True)


def record():
    """Every packet of this network: where a connection begins, and where a datagram goes."""
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
    packets.bind(("lo", 0x0800))
    while True:
        packet = packets.recv(65535)
        head = (packet[0] & 15) * 4
        target = socket.inet_ntoa(packet[16:20])
        port = struct.unpack("!H", packet[head + 2 : head + 4])[0]
        source = struct.unpack("!H", packet[head : head + 2])[0]
        if packet[9] == 6 and packet[head + 13] & 0x12 == 2:
            connections.add((target, port))
        elif packet[9] == 17 and source != 53:
            connections.add((target, port))


def answer_names():
    """A name server that knows one name."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    while True:
        query, client = server.recvfrom(4096)
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode())
            at += 1 + query[at]
        question = query[12 : at + 5]
        kind = struct.unpack("!H", query[at + 1 : at + 3])[0]
        name = ".".join(labels)
        names.add(name)
        known = name == "llm.internal"
        found = known and kind == 1
        head = query[:2] + struct.pack("!HHHHH", 0x8180 if known else 0x8183, 1, int(found), 0, 0)
        record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + socket.inet_aton(INSIDE) if found else b""
        server.sendto(head + question + record, client)


class Internal(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        message = {"role": "assistant", "content": "from inside"}
        body = json.dumps(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 1,
                "model": model,
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
            }
        ).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def call(url, token, body=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    request = urllib.request.Request(url, data, headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            plain = answer.headers.get_content_type() != "application/json"
            return answer.status, None if plain else json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def ready(process):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            return call("http://127.0.0.1:8080/readyz", "")
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"the gateway does not start: {process.poll()}")


prepare()
for work in (record, answer_names, http.server.ThreadingHTTPServer((INSIDE, 8000), Internal).serve_forever):
    threading.Thread(target=work, daemon=True).start()
keys = {name: "sk-canary" for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY")}
environment = {"PATH": os.environ["PATH"], **keys}
data = os.path.join(directory, "data")
process = subprocess.Popen([program, "serve", "--config", config, "--data", data], env=environment, stdout=sys.stderr)
try:
    ready(process)
    with open(os.path.join(data, "admin.key")) as file:
        admin = file.read().strip()
    tenant = call("http://127.0.0.1:8081/v1/tenants", admin, {"id": "acme", "quota": {"usd_per_day": "5"}})[1]
    asked = {"model": model, "max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]}
    status, answer = call("http://127.0.0.1:8080/v1/chat/completions", tenant["token"]["value"], asked)
finally:
    process.terminate()
    code = process.wait(30)
print(json.dumps({"status": status, "answer": answer, "code": code, "names": sorted(names), "connections": sorted(connections)}))
