"""A server that speaks OpenAI's API over real HTTP: it answers two problems right, or as a test tells it to."""

import contextlib
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BODIES = {"double": "    return 2 * x\n", "half": "    return helper(x) / 2\n\nprint('goes on')\n"}


@contextlib.contextmanager
def serving():
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            served.asked.append((self.path, self.headers.get("Authorization"), body))
            fault = served.faults.pop(0) if served.faults else served.always
            if fault is not None:
                return fault(self)
            text = body["prompt"] if "prompt" in body else body["messages"][0]["content"]
            name = next(name for name in BODIES if f"def {name}" in text)
            code = f"Sure:\n```python\n{text[text.index('def ' + name) :].split(chr(10))[0]}\n    return {'2 * x' if name == 'double' else 'x / 2'}\n```"
            choice = {"text": BODIES[name]} if "prompt" in body else {"message": {"content": code}}
            return send(200, json.dumps({"choices": [choice]}))(self)

        def log_message(self, *_):
            pass

    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.daemon_threads = True
    served.asked, served.faults, served.always = [], [], None
    served.url = f"http://127.0.0.1:{served.server_port}/v1"
    threading.Thread(target=served.serve_forever, args=(0.01,), daemon=True).start()
    yield served
    served.shutdown()
    served.server_close()


def send(status, text, **headers):
    def answer(handler):
        content = text.encode() if isinstance(text, str) else text
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def hang_up(handler):
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


def drip(handler):
    """A byte now and then for ever: no single read takes long."""
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.02)
    except OSError:
        handler.close_connection = True


def endless(handler):
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b" " * (1 << 16))
    except OSError:
        handler.close_connection = True
