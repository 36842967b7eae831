"""A judge on the loopback interface that speaks OpenAI's protocol."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, Any]], str | None]


def reading_judge(request: dict[str, Any]) -> str:
    """Explains a latent by its first marked token, and finds that token again."""
    system, user = (message["content"] for message in request["messages"])
    if "comma-separated list" not in system:
        return f"This neuron activates on {user.split('<<', 1)[1].split('>>', 1)[0].strip()}."
    explanation, examples = user.split("\n\nHere are the examples:\n\n")
    token = explanation.removeprefix("Here is the explanation: this neuron fires on ").rstrip(".")
    found = [line.split(".")[0] for line in examples.splitlines() if token in line]
    return ", ".join(number for number in found if number.isdigit()) or "None"


class JudgeServer:
    """Answers until it is closed; `failures` are statuses that it answers with first."""

    def __init__(self, answer: Answer = reading_judge, failures: tuple[int, ...] = ()) -> None:
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.failures = list(failures)
        outer, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with lock:
                    request = json.loads(body)
                    outer.requests.append({"path": self.path, **request})
                    outer.keys.append(self.headers["Authorization"])
                    status = outer.failures.pop(0) if outer.failures else 200
                if status == 200:
                    message = {"role": "assistant", "content": answer(request)}
                    choice = {"index": 0, "message": message, "finish_reason": "stop"}
                    reply: Any = {"id": "1", "object": "chat.completion", "created": 0}
                    reply |= {"model": request["model"], "choices": [choice]}
                else:
                    reply = {"error": {"message": f"no, {self.headers['Authorization']}"}}
                content = json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> JudgeServer:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
