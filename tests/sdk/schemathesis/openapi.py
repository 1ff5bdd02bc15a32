"""Sends what the admin API's own document allows, and what it forbids, and holds each answer against the document.

Arguments: the admin listener's URL, the admin key. Prints {"exit": code, "output": text} as JSON.
"""

import json
import os
import subprocess
import sys
import tempfile

url, key = sys.argv[1:]

# Not `ignored_auth`, which guesses keys until its address is blocked: tests of their own try every route without a key.
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
    "negative_data_rejection",
]

command = [
    os.path.join(os.path.dirname(sys.executable), "schemathesis"),
    "run",
    f"{url}/openapi.json",
    f"--header=Authorization: Bearer {key}",
    f"--checks={','.join(CHECKS)}",
    "--phases=examples,coverage,fuzzing",
    "--max-examples=5",
    "--seed=20261101",
    "--generation-deterministic",
    "--generation-with-security-parameters=false",
    "--no-shrink",
    "--continue-on-failure",
    # More than one compile Python at the same time, which CPython 3.11 now and then answers with "AST constructor recursion depth
    # mismatch" (python/cpython#106905).
    "--workers=1",
    "--request-timeout=10",
    "--warnings=off",
    "--suppress-health-check=all",
    "--no-color",
]

with tempfile.TemporaryDirectory() as directory:
    run = subprocess.run(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
json.dump({"exit": run.returncode, "output": run.stdout}, sys.stdout)
