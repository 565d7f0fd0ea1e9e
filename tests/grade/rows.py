"""Small problems of our own in the forms benchmarks come in."""

import gzip
import json

DOUBLE = {
    "task_id": "HumanEval/0",
    "prompt": 'def double(x):\n    """Return twice x."""\n',
    "canonical_solution": "    return 2 * x\n",
    "entry_point": "double",
    "test": "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(0) == 0\n",
}
HALF = {
    "task_id": "HumanEval/1",
    "prompt": 'import math\n\ndef helper(x):\n    return x\n\ndef half(x):\n    """Return half of x."""\n',
    "canonical_solution": "    return helper(x) / 2\n",
    "entry_point": "half",
    "test": "def check(candidate):\n    assert math.isclose(candidate(3), helper(1.5))\n",
}
HUMANEVAL = [DOUBLE, HALF]
HUMANEVAL_PLUS = [
    {**DOUBLE, "base_input": [[2], [0]], "plus_input": [[-1], [10**30]], "atol": 0},
    {**HALF, "base_input": [[3]], "plus_input": [[1], [1e300]], "atol": 0},
]
MBPP = [
    {"text": "Write a function to add.", "code": "def add(a, b):\r\n  return a + b", "task_id": 11, "test_setup_code": "",
     "test_list": ["assert add(1, 2) == 3", "assert add(0, 0) == 0"]},
    {"text": "Size of a tuple.", "code": "import sys\ndef size(t):\n  return sys.getsizeof(t)", "task_id": 12, "test_setup_code": "",
     "test_list": ["assert size((1, 2)) == sys.getsizeof((1, 2))"]},
    {"text": "Sum of a node.", "code": "class Node:\n  def __init__(self, v):\n    self.v = v; self.next = None\n"
     "def total(n):\n  return n.v + (total(n.next) if n.next else 0)", "task_id": 367, "test_setup_code": "n = Node(1)\r\nn.next = Node(2)",
     "test_list": ["assert total(n) == 3", "assert total(n.next) == 2"]},
    {"text": "Not in the test split.", "code": "def f(): pass", "task_id": 700, "test_setup_code": "", "test_list": ["assert f() is None"]},
]  # fmt: skip
SANITIZED = [
    {"prompt": "Write a function to root.", "code": "import math\ndef root(x):\n  return math.sqrt(x)", "task_id": 2,
     "test_imports": ["import math"], "test_list": ["assert root(4) == math.sqrt(4)"]},
]  # fmt: skip
MBPP_PLUS = [
    {"task_id": "Mbpp/2", "prompt": '"""Shared elements."""\n', "entry_point": "similar_elements", "atol": 0,
     "canonical_solution": "def similar_elements(a, b):\n  assert type(a) is tuple\n  return tuple(set(a) & set(b))\n",
     "base_input": [[[1, 2, 3], [2, 3]]], "plus_input": [[[], []], [["b", "a"], ["a", "b"]]]},
    {"task_id": "Mbpp/3", "prompt": '"""Find a match."""\n', "entry_point": "check_str", "atol": 0,
     "canonical_solution": "import re\ndef check_str(s):\n  return re.match('a', s)\n", "base_input": [["a"]], "plus_input": []},
]  # fmt: skip


def write_lines(path, rows):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path
