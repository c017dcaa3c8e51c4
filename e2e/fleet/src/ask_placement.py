# Asks OpenStack's placement service, in this process with a database in memory, for the hosts that
# flavors with a required trait may use.
#
# Standard input: {"hosts": {NAME: [TRAIT, …]}, "required": [TRAIT, …]}. Standard output: for each
# required trait, the names of the hosts.
import json
import logging
import sys
import uuid

from oslo_config import cfg
from placement import conf, deploy
from placement.db.sqlalchemy import migration
from placement import db_api

logging.disable(logging.CRITICAL)
request = json.load(sys.stdin)
folder = sys.argv[1]
config = cfg.ConfigOpts()
conf.register_opts(config)
config.set_override("connection", f"sqlite:///{folder}/placement.db", group="placement_database")
config.set_override("auth_strategy", "noauth2", group="api")
config.set_override("sync_on_startup", True, group="placement_database")
config([], default_config_files=[])
db_api.configure(config)
migration.upgrade("head")
application = deploy.loadapp(config)


def call(method, path, body=None):
    import io

    data = b"" if body is None else json.dumps(body).encode()
    path, _, query = path.partition("?")
    environ = {
        "REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query, "SCRIPT_NAME": "",
        "SERVER_NAME": "localhost", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(data), "wsgi.errors": sys.stderr,
        "wsgi.version": (1, 0), "wsgi.multithread": False, "wsgi.multiprocess": False,
        "wsgi.run_once": False, "CONTENT_LENGTH": str(len(data)),
        "CONTENT_TYPE": "application/json", "HTTP_X_AUTH_TOKEN": "admin:admin:admin",
        "HTTP_OPENSTACK_API_VERSION": "placement 1.39", "HTTP_ACCEPT": "application/json",
    }
    status = []
    answer = b"".join(application(environ, lambda code, headers, error=None: status.append(code)))
    if not status[0].startswith("2"):
        sys.exit(f"{method} {path}: {status[0]}: {answer.decode()}")
    return json.loads(answer) if answer.strip() else None


names = {}
for name, traits in request["hosts"].items():
    identifier = str(uuid.uuid4())
    names[identifier] = name
    provider = call("POST", "/resource_providers", {"name": name, "uuid": identifier})
    generation = provider["generation"]
    inventory = call("PUT", f"/resource_providers/{identifier}/inventories", {
        "resource_provider_generation": generation, "inventories": {"VCPU": {"total": 8}}})
    for trait in traits:
        call("PUT", f"/traits/{trait}")
    call("PUT", f"/resource_providers/{identifier}/traits", {
        "resource_provider_generation": inventory["resource_provider_generation"],
        "traits": traits})
answers = []
for trait in request["required"]:
    found = call("GET", f"/allocation_candidates?resources=VCPU:1&required={trait}")
    answers.append(sorted(names[it] for it in found["provider_summaries"]))
print(json.dumps(answers))
