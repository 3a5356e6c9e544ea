"""The shared Gateway of the end-to-end tests, and the rule that opens it to one namespace."""

import json

INFRA, BOB, GATEWAY, HOST = "e2e-infra", "e2e-bob", "shared", "bob.example.com"
RULES = json.dumps([{"namespace": INFRA, "name": GATEWAY, "hostnames": [HOST], "fromNamespaces": [BOB]}])
