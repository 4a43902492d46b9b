#!/usr/bin/env python3
"""An HTTP proxy for tests, for which every host is this machine.

    proxy.py PORT-FILE LOG-FILE [NAME:PASSWORD]

Plain requests go to the port that they name on localhost, tunnels (CONNECT) too. Each request is a line of
the log: method and address.
"""
import base64
import http.client
import http.server
import os
import select
import socket
import sys
import urllib.parse

port_file, log_file, *password = sys.argv[1:]
wanted = "Basic " + base64.b64encode(password[0].encode()).decode() if password else None
log = open(log_file, "a", buffering=1)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def refuse(self):
        if wanted is None or self.headers.get("Proxy-Authorization") == wanted:
            return False
        self.send_response(407)
        self.send_header("Proxy-Authenticate", "Basic realm=test")
        self.send_header("Content-Length", "0")
        self.end_headers()
        return True

    def do_CONNECT(self):
        print("CONNECT", self.path, file=log)
        if self.refuse():
            return
        there = socket.create_connection(("localhost", int(self.path.rpartition(":")[2])))
        self.send_response(200)
        self.end_headers()
        both = [self.connection, there]
        while True:
            for end in select.select(both, [], [])[0]:
                data = end.recv(65536)
                if not data:
                    self.close_connection = True
                    return
                both[end is self.connection].sendall(data)

    def forward(self):
        print(self.command, self.path, file=log)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.refuse():
            return
        url = urllib.parse.urlsplit(self.path)
        there = http.client.HTTPConnection("localhost", url.port or 80)
        headers = {k: v for k, v in self.headers.items() if not k.lower().startswith("proxy-")}
        there.request(self.command, self.path[self.path.index("/", 8):], body, headers)
        answer = there.getresponse()
        data = answer.read()
        self.send_response(answer.status)
        for k, v in answer.getheaders():
            if k.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(k, v)
        self.send_header("Content-Length", answer.getheader("Content-Length") or str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = forward


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


server = Server(("localhost", 0), Handler)
with open(port_file + ".part", "w", encoding="utf-8") as f:
    f.write(str(server.server_address[1]))
os.rename(port_file + ".part", port_file)
server.serve_forever()
