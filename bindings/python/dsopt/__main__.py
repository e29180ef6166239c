"""python -m dsopt: the command-line program."""

import os
import sys

from ._program import program

os.execv(program(), ["dsopt", *sys.argv[1:]])
