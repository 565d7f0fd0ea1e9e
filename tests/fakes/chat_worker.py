"""A playground's worker whose model is a counter: answers with its own name and numbers, a word every 5 ms.

Asked `say: TEXT` it says that text instead, in small parts.
"""

import json
import os
import sys
import threading
import time

WORD_S = 0.005
_stops: dict[int, threading.Event] = {}


def say(**reply: object) -> None:
    sys.stdout.write(json.dumps(reply) + "\n")
    sys.stdout.flush()


def count(number: int, num_words: int, name: str) -> None:
    for at in range(num_words):
        if _stops[number].is_set():
            break
        say(id=number, text=f"{name}{at} ")
        time.sleep(WORD_S)
    say(id=number, done=True, tokens=num_words, tokens_per_s=1.0)


def repeat(number: int, text: str) -> None:
    for at in range(0, len(text), 50):
        say(id=number, text=text[at : at + 50])
    say(id=number, done=True, tokens=len(text), tokens_per_s=1.0)


def main() -> None:
    model = ""
    for line in sys.stdin:
        asked = json.loads(line)
        number = asked["id"]
        if asked["op"] == "stop":
            _stops[number].set()
            continue
        _stops[number] = threading.Event()
        if asked["op"] == "load":
            model = asked["ref"]
            sys.stderr.write(f"load {model}\n")
            sys.stderr.flush()
            say(id=number, done=True)
        elif asked["messages"][-1]["content"] == "die":
            os._exit(3)
        elif asked["messages"][-1]["content"].startswith("say: "):
            repeat(number, asked["messages"][-1]["content"].removeprefix("say: "))
        else:
            threading.Thread(target=count, args=(number, asked["max_new_tokens"], model), daemon=True).start()


if __name__ == "__main__":
    main()
