"""A Hub on loopback: repositories, commits, large files and downloads, for the real client."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_the_right_token_for_the_tests"


@dataclass
class Repository:
    """Commits are whole trees: path → (content, whether it is a large file)."""

    private: bool = False
    commits: dict[str, dict[str, tuple[bytes, bool]]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, tree: dict[str, tuple[bytes, bool]]) -> str:
        listing = repr((len(self.commits), sorted((n, c[0]) for n, c in tree.items())))
        oid = hashlib.sha1(listing.encode()).hexdigest()
        self.commits[oid] = tree
        self.branches[branch] = oid
        return oid

    def write_to(self, folder: Path) -> None:
        """As a download of the whole repository."""
        for name, content in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)

    def resolve(self, revision: str) -> str | None:
        return self.branches.get(revision) or (revision if revision in self.commits else None)

    @property
    def files(self) -> dict[str, bytes]:
        return {name: content for name, (content, _) in self.commits[self.branches["main"]].items()}


class FakeHub(ThreadingHTTPServer):
    """The server, and what it can be told to do wrong.

    Attributes:
        drop_uploads: so many PUTs get their connection cut in the middle.
        refuse_with: answer every request that needs to write with this status.
        before_commit: called once, when a commit arrives and before it is looked at.
        log: method and path of every request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.large_files: dict[str, bytes] = {}
        self.drop_uploads = 0
        self.refuse_with: int | None = None
        self.before_commit: Any = None
        self.log: list[str] = []
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def create(self, name: str, private: bool = False) -> Repository:
        repository = self.repositories[name] = Repository(private)
        repository.commit("main", {".gitattributes": (b"*.safetensors filter=lfs\n", False)})
        return repository

    def edit(self, name: str, path: str, content: bytes) -> None:
        """Somebody commits a file on the web page."""
        repository = self.repositories[name]
        tree = dict(repository.commits[repository.branches["main"]])
        repository.commit("main", tree | {path: (content, False)})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeHub

    def log_message(self, *_: Any) -> None:
        self.server.log.append(f"{self.command} {self.path}")

    def do_HEAD(self) -> None:
        self._get()

    def do_GET(self) -> None:
        self._get()

    def do_PUT(self) -> None:
        oid = self.path.removeprefix("/lfs/")
        size = int(self.headers["Content-Length"])
        with self.server.lock:
            drop = self.server.drop_uploads > 0
            self.server.drop_uploads -= drop
        if drop:
            self.rfile.read(min(size, 1024))
            self.close_connection = True
            self.connection.close()
            return None
        body = self.rfile.read(size)
        if hashlib.sha256(body).hexdigest() != oid:
            return self._error(400, "", "wrong hash")
        self.server.large_files[oid] = body
        return self._send(200)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        if path == "/api/validate-yaml":
            return self._send(200, {"errors": [], "warnings": []})
        if self.server.refuse_with:
            return self._error(self.server.refuse_with, "", f"refused {TOKEN}")
        if not self._has_token:
            return self._error(401, "", "Invalid credentials in Authorization header")
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path.endswith("/lfs/verify"):
            return self._send(200, {})
        if path.endswith(".git/info/lfs/objects/batch"):
            return self._batch(json.loads(body))
        parts = path.removeprefix("/api/models/").split("/")
        repository = self.server.repositories.get("/".join(parts[:2]))
        if repository is None:
            return self._error(404, "RepoNotFound", "Repository not found")
        revision = unquote(parts[3]) if len(parts) > 3 else "main"
        if parts[2] == "preupload":
            return self._preupload(json.loads(body))
        if parts[2] == "branch":
            repository.branches[revision] = repository.branches["main"]
            return self._send(200, {})
        if parts[2] == "commit":
            return self._commit(body, repository, revision, "/".join(parts[:2]))
        return self._error(404, "", "no such endpoint")

    @property
    def _has_token(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        if name in self.server.repositories:
            return self._error(409, "", "You already created this model repo")
        private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        self.server.create(name, private)
        return self._send(200, {"url": f"{self.server.url}/{name}", "name": name})

    def _batch(self, wanted: dict[str, Any]) -> None:
        objects: list[dict[str, Any]] = []
        for entry in wanted["objects"]:
            found: dict[str, Any] = {"oid": entry["oid"], "size": entry["size"]}
            if entry["oid"] not in self.server.large_files:
                upload = {"href": f"{self.server.url}/lfs/{entry['oid']}"}
                found["actions"] = {
                    "upload": upload,
                    "verify": {"href": f"{self.server.url}/lfs/verify"},
                }
            objects.append(found)
        return self._send(200, {"transfer": "basic", "objects": objects})

    def _preupload(self, wanted: dict[str, Any]) -> None:
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
            }
            for file in wanted["files"]
        ]
        return self._send(200, {"files": files})

    def _commit(self, body: bytes, repository: Repository, branch: str, name: str) -> None:
        if self.server.before_commit is not None:
            interfere, self.server.before_commit = self.server.before_commit, None
            interfere()
        lines = [json.loads(line) for line in body.splitlines()]
        parent = lines[0]["value"].get("parentCommit")
        if parent is not None and parent != repository.branches[branch]:
            return self._error(412, "", "A commit has happened since.")
        tree = dict(repository.commits[repository.branches[branch]])
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                tree[value["path"]] = (base64.b64decode(value["content"]), False)
            elif line["key"] == "lfsFile":
                tree[value["path"]] = (self.server.large_files[value["oid"]], True)
            elif line["key"] == "deletedFile":
                del tree[value["path"]]
        oid = repository.commit(branch, tree)
        return self._send(
            200, {"commitUrl": f"{self.server.url}/{name}/commit/{oid}", "commitOid": oid}
        )

    def _get(self) -> None:
        path = urlsplit(self.path).path
        # A slash in a revision is quoted; one between names is not.
        parts = [*map(unquote, path.removeprefix("/api/models/").strip("/").split("/"))]
        name = "/".join(parts[:2])
        repository = self.server.repositories.get(name)
        if repository is None or (repository.private and not self._has_token):
            status = 404 if self._has_token else 401
            return self._error(status, "RepoNotFound", "Repository not found")
        rest = parts[2:]
        if path.startswith("/api/models/"):
            revision = rest[1] if len(rest) > 1 else "main"
            oid = repository.resolve(revision)
            if oid is None:
                return self._error(404, "RevisionNotFound", "Invalid rev id")
            if rest and rest[0] == "tree":
                return self._send(200, [_entry(n, *c) for n, c in repository.commits[oid].items()])
            siblings = [{"rfilename": file} for file in repository.commits[oid]]
            info = {"id": name, "sha": oid, "private": repository.private, "siblings": siblings}
            return self._send(200, info)
        oid = repository.resolve(rest[1])
        if oid is None:
            return self._error(404, "RevisionNotFound", "Invalid rev id")
        found = repository.commits[oid].get("/".join(rest[2:]))
        if found is None:
            return self._error(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": oid})
        content, is_large = found
        entry = _entry("", content, is_large)
        etag = entry["lfs"]["oid"] if is_large else entry["oid"]
        return self._send(200, content, {"X-Repo-Commit": oid, "ETag": f'"{etag}"'})

    def _error(
        self, status: int, code: str, message: str, headers: dict[str, str] | None = None
    ) -> None:
        known = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        return self._send(status, {"error": message}, known | (headers or {}))

    def _send(self, status: int, value: Any = b"", headers: dict[str, str] | None = None) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        if not isinstance(value, bytes):
            self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _entry(path: str, content: bytes, is_large: bool) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": blob}
    if is_large:
        sha256 = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 130}
    return entry
