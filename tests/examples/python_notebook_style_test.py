"""python_notebook_style_test.py TOUR MODEL: it runs from top to bottom, and Ctrl-C ends an answer, not the program."""

import re
import subprocess
import sys

TOUR, MODEL = sys.argv[1:3]
result = subprocess.run(
    [sys.executable, TOUR, MODEL], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600
)
output = result.stdout
assert result.returncode == 0, f"exit code {result.returncode}\n{output}{result.stderr}"


def expect(pattern):
    assert re.search(pattern, output, re.M), f"/{pattern}/ is not in\n{output}"


expect(r'^\[\{"action":"goto","target":"kitchen"\}\]$')
expect(r'"action":"pick","object":"cup","color":"red".*"action":"return"\}\]$')
expect(r"\[EOS: first text after .* ms, \d+ tokens/s, 17 prompt tokens, cache \d+ of 512\]")
expect(r"\[CANCELLED: first text after")
expect(r'^\[\{"action":"gesture","name":"wave","to":"kids"\}\]$')
expect(r"^after .*take me home.*: entropy [0-9.]+ bits$")
expect(r"^ +\d+\.\d\d% #+ +'charge'$")
expect(r"^'find' +\d+\.\d% +'refuse' \d+\.\d%$")
expect(r"^whole answer: EOS, \d+ tokens with the prompt$")
assert output.endswith("done\n"), output
print("the tour ran from top to bottom")
