# Runs a command of kubectl inside a pod, in front of an API server that knows ConfigMaps.
#
# Arguments: a folder that becomes /run, a token's folder in it, a namespace, then the command.
# Standard output: {"requests": [{"method": …, "path": …, "verbs": […]}], "objects": […]}. The verbs
# are those that the real server checks: a patch of an object that does not exist also needs create.
import http.server
import json
import os
import ssl
import subprocess
import sys
import threading
import urllib.parse

run, token, namespace, *command = sys.argv[1:]
requests, objects = [], {}
DISCOVERY = {
    "/version": {"major": "1", "minor": "32", "gitVersion": "v1.32.4"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {
        "kind": "APIResourceList", "groupVersion": "v1",
        "resources": [{"name": "configmaps", "singularName": "configmap", "namespaced": True,
                       "kind": "ConfigMap", "verbs": ["create", "get", "list", "patch"]}],
    },
    "/openapi/v3": {"paths": {"api/v1": {"serverRelativeURL": "/openapi/v3/api/v1"}}},
    # The server validates the fields, so kubectl need not know them.
    "/openapi/v3/api/v1": {
        "openapi": "3.0.0", "info": {"title": "api", "version": "1"},
        "paths": {"/api/v1/namespaces/{namespace}/configmaps/{name}": {"patch": {
            "parameters": [{"name": "fieldValidation", "in": "query"}],
            "x-kubernetes-group-version-kind": {"group": "", "kind": "ConfigMap", "version": "v1"},
        }}},
    },
}


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do(self):
        path = urllib.parse.urlsplit(self.path).path
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = {"method": self.command, "path": path, "verbs": [],
                   "token": self.headers.get("Authorization")}
        requests.append(request)
        if self.command == "GET" and path in DISCOVERY:
            return self.answer(200, DISCOVERY[path])
        parts = path.strip("/").split("/")
        if parts[:2] != ["api", "v1"] or "namespaces" not in parts:
            return self.answer(404, {"kind": "Status", "status": "Failure", "code": 404})
        verb = {"GET": "get", "PATCH": "patch", "POST": "create", "PUT": "update",
                "DELETE": "delete"}[self.command]
        request["verbs"] = [verb]
        if verb != "patch":
            return self.answer(404, {"kind": "Status", "status": "Failure", "code": 404})
        status = 200
        if path not in objects:
            request["verbs"].append("create")
            status = 201
        content = json.loads(body)
        objects[path] = content
        self.answer(status, content)

    do_GET = do_PATCH = do_POST = do_PUT = do_DELETE = do


folder = os.path.join(run, token)
os.makedirs(folder, exist_ok=True)
with open(os.path.join(folder, "token"), "w") as file:
    file.write("secret")
with open(os.path.join(folder, "namespace"), "w") as file:
    file.write(namespace)
certificate, key = os.path.join(folder, "ca.crt"), os.path.join(folder, "key")
subprocess.run(["openssl", "req", "-x509", "-nodes", "-days", "2", "-newkey", "rsa:2048",
                "-subj", "/CN=api", "-addext", "subjectAltName=IP:127.0.0.1",
                "-keyout", key, "-out", certificate], check=True, capture_output=True)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
environment = {
    "PATH": os.environ["PATH"], "HOME": run,
    "KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(server.server_port),
}
inside = ["unshare", "--map-root-user", "--mount", "sh", "-c",
          'mount --bind "$0" /run && exec "$@"', run, *command]
# Twice: another node with the same record comes second.
for _ in range(2):
    done = subprocess.run(inside, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{command}: {done.returncode}\n{done.stdout}{done.stderr}")
print(json.dumps({"requests": requests, "objects": list(objects.values()), "paths": list(objects)}))
