"""Users of an A/B test: each asks for a prediction, then buys something or does not.

`python users.py ADDRESS COUNT` prints how many users each version had and how many of them bought. Whoever is served by
version 2 buys more often, so it should win. A user's cookie goes with every request, as a browser sends it.
"""

import http.client
import json
import random
import sys
from collections import Counter
from pathlib import Path

HOST = "offers.example.com"
BUYS = {"1": 0.15, "2": 0.35}  # by model version: what the test is to find out
ROW = json.loads((Path(__file__).parents[1] / "01-minimal" / "request.json").read_text())


def post(connection, path, body, cookie):
    headers = {"Host": HOST, "Content-Type": "application/json", **({"Cookie": cookie} if cookie else {})}
    connection.request("POST", path, json.dumps(body), headers)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200:
        sys.exit(f"{path}: {answer.status} {text.decode()}")
    given = (answer.getheader("Set-Cookie") or "").partition(";")[0]
    return json.loads(text), given or cookie


def main(address, count):
    seen, bought = Counter(), Counter()
    connection = http.client.HTTPConnection(address, 8080, timeout=10)
    for _ in range(count):
        answer, cookie = post(connection, "/predict", ROW, None)
        version = answer["model_version"]
        buys = random.random() < BUYS[version]
        again, cookie = post(connection, "/predict", ROW, cookie)
        if again["model_version"] != version:
            sys.exit(f"a user met version {version}, then {again['model_version']}")
        post(connection, "/feedback", {"conversion": buys}, cookie)
        seen[version] += 1
        bought[version] += buys
    for version in sorted(seen):
        print(f"version {version}: {seen[version]} users, {bought[version]} of them bought")


main(sys.argv[1], int(sys.argv[2]))
