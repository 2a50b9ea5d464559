"""Applications that use hvac: each keeps its connection, writes, reads back, and says what failed.

Called with an address and a token. Half of them never try a request again; the others do as hvac's documentation shows,
which repeats no POST that was sent. A line per pair of requests; ends with its input.
"""

import sys
import threading

import hvac
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

CLIENTS = 8
over = threading.Event()
speaking = threading.Lock()


def say(line):
    with speaking:
        print(line, flush=True)


def use(number, address, token):
    session = requests.Session()
    if number % 2:
        retry = Retry(total=3, backoff_factor=0.1, status_forcelist=[412, 500, 502, 503], raise_on_status=False)
        session.mount("http://", HTTPAdapter(max_retries=retry))
    client = hvac.Client(url=address, token=token, session=session)
    kv = client.secrets.kv.v1
    count = 0
    while not over.is_set():
        count += 1
        path = f"python-{number}-{count % 16}"
        try:
            kv.create_or_update_secret(path, {"x": str(count)}, mount_point="kv")
            read = kv.read_secret(path, mount_point="kv")["data"]["x"]
        except Exception as problem:
            say(f"failed: {path} {count}: {problem!r}")
            continue
        say("done" if read == str(count) else f"failed: {path}: {read} where {count} was written")
        over.wait(0.001 * number)


threads = [threading.Thread(target=use, args=(number, *sys.argv[1:3])) for number in range(CLIENTS)]
for thread in threads:
    thread.start()
sys.stdin.read()
over.set()
for thread in threads:
    thread.join()
