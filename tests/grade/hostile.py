"""Programs that try to pass without being right, to hang, or to break their judge; right is f(x) == 2 * x."""

TEST = "assert f(1) == 2\nassert abs(f(3) - 6) == 0"
PASS_BYTES = 'b\'{"status": "pass", "passed": 9, "why": ""}\''

FAKES = {
    "os._exit(0) at import": "import os\nos._exit(0)\ndef f(x): return 0",
    "os._exit(0) when called": "import os\ndef f(x): os._exit(0)",
    "sys.exit when called": "import sys\ndef f(x): sys.exit(0)",
    "SystemExit at import": "raise SystemExit(0)",
    "KeyboardInterrupt": "def f(x): raise KeyboardInterrupt",
    "StopIteration": "def f(x): raise StopIteration",
    "GeneratorExit": "def f(x): raise GeneratorExit",
    "an AssertionError of its own": "def f(x): raise AssertionError('pass')",
    "an exception that lies about its name": "E = type('ValueError', (BaseException,), {})\ndef f(x): raise E()",
    "an exception without str": "class E(Exception):\n def __str__(s): raise SystemExit\ndef f(x): raise E",
    "equals everything": (
        "class E:\n def __eq__(s, o): return True\n def __ne__(s, o): return False\n def __sub__(s, o): return 0\n"
        " def __abs__(s): return 0\ndef f(x): return E()"
    ),
    "int that equals everything": (
        "class E(int):\n def __eq__(s, o): return True\n __hash__ = int.__hash__\n def __sub__(s, o): return 0\n"
        "def f(x): return E(0)"
    ),
    "float that equals everything": "class E(float):\n def __eq__(s, o): return True\ndef f(x): return E(0)",
    "class that lies about itself": (
        "class E:\n @property\n def __class__(s): return int\n def __index__(s): return 2\n"
        " def __eq__(s, o): return True\ndef f(x): return E()"
    ),
    "pickle that runs": "class E:\n def __reduce__(s): return (print, ('x',))\ndef f(x): return E()",
    "not a number": "def f(x): return float('nan')",
    "prints the verdict": f"print({PASS_BYTES})\ndef f(x): return 0",
    "writes the verdict to every descriptor": (
        f"import os\ndef f(x):\n for n in range(256):\n  try: os.write(n, {PASS_BYTES})\n  except OSError: pass\n return 0"
    ),
    "writes frames to every descriptor": (
        "import os, struct\ndef f(x):\n d = struct.pack('=IB', 1, 118) + b'0'\n for n in range(3, 256):\n"
        "  try: os.write(n, d * 3)\n  except OSError: pass\n return 0"
    ),
    "sends a frame of 4 GiB": (
        "import os\ndef f(x):\n for n in range(3, 9):\n  try: os.write(n, b'\\xff' * 64)\n  except OSError: pass\n return 0"
    ),
    "sends broken JSON": (
        "import os, struct\ndef f(x):\n for n in range(3, 9):\n  try: os.write(n, struct.pack('=IB', 1, 118) + b'{')\n"
        "  except OSError: pass\n return 0"
    ),
    "sends an unknown tag": (
        "import os, struct\ndef f(x):\n for n in range(3, 9):\n  d = b'{\"eval\": 1}'\n"
        "  try: os.write(n, struct.pack('=IB', len(d), 118) + d)\n  except OSError: pass\n return 0"
    ),
    "answers before it is asked": (
        "import os, struct\nfor n in range(3, 9):\n try: os.write(n, struct.pack('=IB', 0, 114) + (struct.pack('=IB', 1, 118) + b'0') * 9)\n"
        " except OSError: pass\ndef f(x): return 0"
    ),
    "reads its calls away": "import os\nfor n in range(3, 9):\n try: os.set_blocking(n, False); os.read(n, 99)\n except OSError: pass\ndef f(x): return 0",
    "patches builtins": "import builtins\nbuiltins.abs = lambda x: 0\nbuiltins.AssertionError = ValueError\ndef f(x): return 0",
    "patches json": "import json\njson.loads = lambda *a: 2\njson.JSONEncoder.encode = lambda *a: '2.5'\ndef f(x): return 0",
    "patches its own encoder": (
        "import sys\nfor m in list(sys.modules.values()):\n if hasattr(m, 'Opaque'): m.encode = lambda *a: '{\"opaque\": \"int\"}'\n"
        "def f(x): return 0"
    ),
    "defines check": "def check(c): pass\ndef f(x): return 0",
    "walks frames": (
        "import sys\ndef f(x):\n fr = sys._getframe()\n while fr:\n  for v in list(fr.f_locals.values()):\n"
        "   try: v['passed'] = 9; v['status'] = 'pass'\n   except Exception: pass\n"
        "   try: v.append('passed')\n   except Exception: pass\n  fr = fr.f_back\n return 0"
    ),
    "traces": "import sys\nsys.settrace(lambda *a: None)\nsys.setprofile(lambda *a: None)\ndef f(x): return 0",
    "patches what gc finds": (
        "import gc\nfor o in gc.get_objects():\n if isinstance(o, dict) and 'wire' in o: o['wire'] = None\ndef f(x): return 0"
    ),
    "looks for the tests in memory": (
        "import gc, os\ndef f(x):\n for o in gc.get_objects():\n  if type(o) is dict:\n   for v in list(o.values()):\n"
        "    if type(v) is str and 'assert f(1)' + ' == 2' in v and __name__ not in v: return 2 * x\n return 0"
    ),
    "runs the right answer in the judge": "def f(x): return __import__('os')",
    "returns itself": "def f(x): return f",
    "returns a list in itself": "def f(x):\n a = []\n a.append(a)\n return a",
    "returns a deep list": "def f(x):\n a = []\n for _ in range(10**5): a = [a]\n return a",
    "closes its descriptors": "import os\nos.closerange(0, 1000)\ndef f(x): return 0",
    "closes standard output": "import sys, os\nsys.stdout.close()\nos.close(1); os.close(2)\ndef f(x): return 0",
    "asks for input": "def f(x): return input()",
    "segmentation fault": "import ctypes\ndef f(x): ctypes.string_at(0)",
    "abort": "import os\ndef f(x): os.abort()",
    "exit handler": "import atexit, os\natexit.register(lambda: os._exit(0))\ndef f(x): return 0",
    "no function": "g = 1",
    "not a function": "f = 2",
    "does not compile": "def f(x) return 0",
    "NUL byte": "def f(x): return 0\0",
    "lone surrogate": "def f(x): return '\\ud800'",
    "empty": "",
}

GREEDY = {
    "starts threads without end": (
        "import threading, time\ndef f(x):\n threading.stack_size(1 << 15)\n"
        " while True:\n  try: threading.Thread(target=time.sleep, args=(100,)).start()\n  except RuntimeError: time.sleep(0.01)"
    ),
    "deep recursion": "import sys\nsys.setrecursionlimit(10**9)\ndef f(x): return f(x)",
    "asks for memory": "def f(x):\n a = []\n while True: a.append(bytearray(10**8))",
    "returns 1 GB": "def f(x): return 'x' * 10**9",
    "infinite iterator": "import itertools\ndef f(x): return itertools.count()",
    "asks for 8 TB": "def f(x): return [0] * 10**12",
}
"""These may end or run into a limit."""

HANGS = {
    "infinite loop": "def f(x):\n while True: pass",
    "infinite loop at import": "while True: pass",
    "sleep": "import time\ndef f(x): time.sleep(100)",
    "stop signals ignored": (
        "import signal\nfor n in (signal.SIGTERM, signal.SIGALRM, signal.SIGINT, signal.SIGXCPU): signal.signal(n, signal.SIG_IGN)\n"
        "def f(x):\n while True: pass"
    ),
    "everything caught": "def f(x):\n while True:\n  try:\n   while True: pass\n  except BaseException: pass",
    "backtracking regex": "import re\ndef f(x): return re.match('(a+)+$', 'a' * 40 + 'b')",
    "big number": "def f(x): return 9 ** (9 ** 9)",
    "endless output": "def f(x):\n while True: print('x' * 10**6)",
    "threads left running": (
        "import threading\ndef g():\n while True: pass\nthreading.Thread(target=g).start()\ndef f(x):\n while True: pass"
    ),
    "waits for a thread that sleeps": (
        "import threading, time\ndef f(x):\n t = threading.Thread(target=time.sleep, args=(100,))\n t.start(); t.join()\n return 2 * x"
    ),
    "waits for its own lock": "import threading\nL = threading.Lock()\nL.acquire()\ndef f(x): L.acquire()",
    "equality that never ends": "class E(int):\n def __pos__(s):\n  while True: pass\ndef f(x):\n while True: hash(E())",
    "never reads its calls": "import time\ntime.sleep(100)\ndef f(x): return 0",
}

GOOD = {
    "plain": "def f(x): return 2 * x",
    "prints 100 kB": "def f(x):\n print('y' * 100000)\n return 2 * x",
    "a thread": (
        "import threading\ndef f(x):\n r = []\n t = threading.Thread(target=lambda: r.append(2 * x)); t.start(); t.join()\n return r[0]"
    ),
    "standard library": "def f(x):\n import secrets, uuid, difflib, pprint, hashlib, decimal, zlib, bz2, socket, csv, logging, urllib.request\n return 2 * x",
    "standard output closed": "import sys\nsys.stdout.close()\ndef f(x): return 2 * x",
    "recursion limit": "import sys\nsys.setrecursionlimit(10**6)\ndef g(n): return n and 1 + g(n - 1)\ndef f(x): return g(5000) - 5000 + 2 * x",
    "500 MB": "def f(x):\n b = bytearray(5 * 10**8)\n return 2 * x",
    "data class": "from dataclasses import dataclass\n@dataclass\nclass P:\n a: 'int'\ndef f(x): return P(2 * x).a",
    "bool for int": "def f(x): return 2 * x + False",
    "int subclass": "class E(int): pass\ndef f(x): return E(2 * x)",
    "main guard": "def f(x): return 2 * x\nif __name__ == '__main__':\n raise SystemExit",
}
