"""What schemathesis must know of this API and no document says: who asks, which ids are real, and that time is short."""

import itertools
import json
import os
import random
import re
import urllib.request

import schemathesis

SERVER = os.environ["AWCHAT_URL"]
ID = re.compile(r"[0-9]{1,20}|[0-9a-f]{32}|[A-Za-z0-9_-]{22,26}")
CHANCE = random.Random(1)
NUMBERS = itertools.count()

# Ids that the server gave, by the collection they are in, such as /api/conversations.
IDS: dict[str, list[str]] = {}


def token(sub):
    with urllib.request.urlopen(f"{SERVER}/dev/token?user={sub}") as answer:
        return json.load(answer)["token"]


ADA = token("ada")


@schemathesis.auth(refresh_interval=None)
class Session:
    """Everybody is Ada, but for those who are erased: each is somebody new."""

    def get(self, case, ctx):
        return token(f"leaving-{next(NUMBERS)}") if case.operation.path == "/api/me" else ADA

    def set(self, case, data, ctx):
        case.headers["Authorization"] = f"Bearer {data}"


def collection(path):
    return "/".join(path.split("/")[:3])


@schemathesis.hook
def before_call(context, case, kwargs):
    # Nobody has the time for long polls.
    if str(case.query.get("wait")).isdigit() and int(case.query["wait"]) <= 30:
        case.query["wait"] = 0
    # A made-up id is nobody's: every other well-formed one becomes a real one.
    known = IDS.get(collection(case.operation.path))
    given = case.path_parameters.get("id")
    if known and ID.fullmatch(str(given)) and CHANCE.random() < 0.5:
        case.path_parameters["id"] = CHANCE.choice(known[-20:])


@schemathesis.hook
def after_call(context, case, response):
    path = case.operation.path
    if not 200 <= response.status_code < 300 or "{" in path or not path.startswith("/api/"):
        return
    try:
        answer = response.json()
    except ValueError:
        return
    if not isinstance(answer, dict):
        return
    lists = [value for value in answer.values() if isinstance(value, list)]
    made = [answer] if case.method == "POST" else itertools.chain(*lists)
    found = [one.get("id") for one in made if isinstance(one, dict)]
    IDS.setdefault(collection(path), []).extend(one for one in found if isinstance(one, str))


@schemathesis.hook
def filter_failure(context, failure, case, response):
    # DELETE /api/devices/register is DELETE /api/devices/{id} of a malformed id: a 404, and a method that Allow names.
    is_malformed_id = case.operation.path == "/api/devices/register" and response.status_code in (404, 405)
    # A part of a form is bytes: whatever is put there for a file that must not be one, as text it is a text file.
    is_text_file = case.operation.path == "/api/files/upload" and response.status_code == 201
    # What the server says of a head that is too long, it says before it knows the operation.
    is_too_long = response.status_code in (414, 431)
    return not (is_malformed_id or is_text_file or is_too_long)
