#!/usr/bin/env python3
"""A registry after the OCI distribution specification 1.1 for tests, with what docker-registry lacks or
never does: the referrers API, a least size of pieces, tokens for each repository, uploads that break off.

    zot.py PORT-FILE LOG-FILE [WORD...]

Words: referrers, chunk-min=N, break=N (of the requests with PATCH, the first N lose their connection in
the middle), lose (and forgets that upload), token (bearer tokens, for each repository by itself),
busy=N (the first N requests get 429), busy-upload=N (the first N that bring bytes of blobs do, with a date), redirect=URL (blobs are to be fetched there), identity=SECRET (tokens
only with POST, for this refresh token), token-redirect=URL (they are to be had there), notes (the log says which requests have an Authorization),
warning=TEXT (with every answer), no-delete (of manifests; no-delete=tag: of tags), stall=N (the first time that a blob larger than N bytes is asked for, it stops in the middle).  What it was asked stands in the log, one request a line.
"""
import base64, email.utils, hashlib, http.server, json, os, re, sys, time, urllib.parse, uuid

port_file, log_file, *words = sys.argv[1:]
options = dict(w.partition("=")[::2] for w in words)
blobs, manifests, tags, uploads = {}, {}, {}, {}
counts = {"break": int(options.get("break", 0)), "busy": int(options.get("busy", 0)),
          "busy-upload": int(options.get("busy-upload", 0))}
log = open(log_file, "a", buffering=1)


def is_digest(which):
    return which.startswith(("sha256:", "sha512:"))


def digest_like(which, data):
    """With the algorithm of `which`, if that is a digest."""
    algorithm = which.partition(":")[0] if is_digest(which) else "sha256"
    return algorithm + ":" + hashlib.new(algorithm, data).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for k, v in headers.items():
            self.send_header(k.replace("_", "-"), v)
        if "warning" in options:
            self.send_header("Warning", '299 - "' + options["warning"] + '"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def error(self, status, code, **headers):
        self.answer(status, json.dumps({"errors": [{"code": code, "message": code}]}).encode(), **headers)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def allowed(self, repository, action):
        if "token" not in options:
            return True
        granted = self.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            scopes = base64.b64decode(granted).decode().split()
        except ValueError:
            scopes = []
        for s in scopes:
            kind, name, actions = s.split(":")
            if name == repository and action in actions.split(","):
                return True
        port = self.server.server_address[1]
        self.close_connection = True
        self.error(401, "UNAUTHORIZED", WWW_Authenticate=f'Bearer realm="http://localhost:{port}/token",'
                   f'service="test",scope="repository:{repository}:{action}"')
        return False

    def handle_one(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        noted = " authorized" if "notes" in options and "Authorization" in self.headers else ""
        print(self.command, self.path, self.headers.get("Content-Range", "") + noted, file=log)
        if counts["busy"] > 0:
            counts["busy"] -= 1
            self.body()
            return self.error(429, "TOOMANYREQUESTS", Retry_After="1")
        if counts["busy-upload"] > 0 and self.command in ("PUT", "PATCH") and "/blobs/uploads/" in url.path:
            counts["busy-upload"] -= 1
            self.body()
            when = email.utils.formatdate(time.time() + 2, usegmt=True)
            return self.error(429, "TOOMANYREQUESTS", Retry_After=when)
        if url.path == "/token" and "token-redirect" in options:
            self.body()
            return self.answer(307, Location=options["token-redirect"] + self.path)
        if url.path == "/token" and "identity" in options:
            form = dict(urllib.parse.parse_qsl(self.body().decode()))
            if form.get("grant_type") != "refresh_token" or form.get("refresh_token") != options["identity"]:
                return self.error(401, "UNAUTHORIZED")
            return self.answer(200, json.dumps({"access_token": base64.b64encode(form["scope"].encode()).decode()}).encode())
        if url.path == "/token":
            scopes = [v for k, v in urllib.parse.parse_qsl(url.query) if k == "scope"]
            token = base64.b64encode(" ".join(scopes).encode()).decode()
            return self.answer(200, json.dumps({"token": token}).encode())
        if url.path == "/v2/":
            return self.answer(200, b"{}")
        m = re.fullmatch(r"/v2/(.+)/(blobs/uploads|blobs|manifests|tags|referrers)/([^/]*)", url.path)
        if not m:
            return self.error(404, "NOT_FOUND")
        repository, kind, what = m.groups()
        action = "pull" if self.command in ("GET", "HEAD") and kind != "blobs/uploads" else "push"
        if not self.allowed(repository, action):
            return
        getattr(self, "do_" + kind.replace("/", "_"))(repository, what, query)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one

    def do_blobs(self, repository, digest, query):
        if "redirect" in options and self.command == "GET":
            return self.answer(307, Location=options["redirect"] + self.path)
        if (repository, digest) not in blobs:
            return self.error(404, "BLOB_UNKNOWN")
        if self.command == "DELETE":
            if "no-delete" in options:
                return self.error(405, "UNSUPPORTED")
            del blobs[repository, digest]
            return self.answer(202)
        data = blobs[repository, digest]
        m = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if m:
            at = int(m[1])
            return self.answer(206, data[at:], Content_Range=f"bytes {at}-{len(data) - 1}/{len(data)}")
        if len(data) > int(options.get("stall", len(data))) and self.command == "GET":
            del options["stall"]
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            time.sleep(60)
            return
        self.answer(200, data)

    def do_blobs_uploads(self, repository, id, query):
        where = lambda i: f"/v2/{repository}/blobs/uploads/{i}?state={uuid.uuid4().hex}"
        if self.command == "POST":
            source, digest = query.get("from"), query.get("mount")
            if (source, digest) in blobs and ("token" not in options or self.may_read(source)):
                blobs[repository, digest] = blobs[source, digest]
                return self.answer(201, Location=f"/v2/{repository}/blobs/{digest}")
            id = uuid.uuid4().hex
            uploads[id] = b""
            more = {"OCI_Chunk_Min_Length": options["chunk-min"]} if "chunk-min" in options else {}
            return self.answer(202, Location=where(id), Range="0-0", **more)
        if id not in uploads:
            self.close_connection = True
            return self.error(404, "BLOB_UPLOAD_UNKNOWN")
        if self.command == "DELETE":
            del uploads[id]
            return self.answer(204)
        have = uploads[id]
        if self.command == "GET":
            return self.answer(204, Location=where(id), Range=f"0-{max(len(have) - 1, 0)}")
        if self.command == "PATCH":
            start = int((self.headers.get("Content-Range") or f"{len(have)}-").split("-")[0])
            if start != len(have):
                self.body()
                return self.error(416, "BLOB_UPLOAD_INVALID")
            if counts["break"] > 0:
                counts["break"] -= 1
                uploads[id] = have + self.rfile.read(int(self.headers["Content-Length"]) // 2)
                if "lose" in options:
                    del uploads[id]
                self.close_connection = True
                self.connection.shutdown(2)
                return
            uploads[id] = have + self.body()
            return self.answer(202, Location=where(id), Range=f"0-{len(uploads[id]) - 1}")
        data = have + self.body()
        digest = digest_like(query.get("digest", ""), data)
        if digest != query.get("digest"):
            return self.error(400, "DIGEST_INVALID")
        del uploads[id]
        blobs[repository, digest] = data
        self.answer(201, Location=f"/v2/{repository}/blobs/{digest}", Docker_Content_Digest=digest)

    def may_read(self, repository):
        scopes = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Bearer ")).decode().split()
        return any(s.startswith(f"repository:{repository}:") and "pull" in s for s in scopes)

    def do_manifests(self, repository, which, query):
        if self.command == "PUT":
            data = self.body()
            digest = digest_like(which, data)
            if is_digest(which) and digest != which:
                return self.error(400, "DIGEST_INVALID")
            document = json.loads(data)
            for d in [document.get("config")] + document.get("layers", []):
                if d and (repository, d["digest"]) not in blobs:
                    return self.error(400, "MANIFEST_BLOB_UNKNOWN")
            for d in document.get("manifests", []):
                if not which.startswith(("sha256-", "sha512-")) and (repository, d["digest"]) not in manifests:
                    return self.error(400, "MANIFEST_UNKNOWN")
            manifests[repository, digest] = (data, self.headers["Content-Type"])
            if not is_digest(which):
                tags[repository, which] = digest
            more = {"OCI_Subject": document["subject"]["digest"]} if "subject" in document and "referrers" in options else {}
            return self.answer(201, Docker_Content_Digest=digest, **more)
        digest = tags.get((repository, which), which)
        if (repository, digest) not in manifests:
            return self.error(404, "MANIFEST_UNKNOWN")
        if self.command == "DELETE":
            if "no-delete" in options and (options["no-delete"] == "" or not is_digest(which)):
                return self.error(405, "UNSUPPORTED")
            for tag in [t for t, d in tags.items() if t[0] == repository and (t[1] == which or d == which)]:
                del tags[tag]
            if is_digest(which):
                del manifests[repository, digest]
            return self.answer(202)
        data, type = manifests[repository, digest]
        self.answer(200, data, Content_Type=type, Docker_Content_Digest=digest)

    def do_tags(self, repository, what, query):
        names = sorted(t for r, t in tags if r == repository)
        if not names:
            return self.error(404, "NAME_UNKNOWN")
        # Two at a time, whatever was asked for.
        names = [n for n in names if n > query.get("last", "")]
        more = {"Link": f'</v2/{repository}/tags/list?n=2&last={names[1]}>; rel="next"'} if len(names) > 2 else {}
        self.answer(200, json.dumps({"name": repository, "tags": names[:2]}).encode(), **more)

    def do_referrers(self, repository, subject, query):
        if "referrers" not in options:
            return self.error(404, "NOT_FOUND")
        found = []
        for (r, digest), (data, type) in manifests.items():
            document = json.loads(data)
            if r == repository and document.get("subject", {}).get("digest") == subject:
                found.append({"mediaType": type, "digest": digest, "size": len(data),
                              "artifactType": document.get("artifactType") or document["config"]["mediaType"],
                              "annotations": document.get("annotations", {})})
        index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": found}
        self.answer(200, json.dumps(index).encode(), Content_Type=index["mediaType"])


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


server = Server(("localhost", 0), Handler)
open(port_file + ".part", "w").write(str(server.server_address[1]))
os.rename(port_file + ".part", port_file)
server.serve_forever()
