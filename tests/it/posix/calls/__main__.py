"""System calls whose answers are compared between a mount and ext4: each line that is printed is one case.

usage: calls DIRECTORY GROUP [CASE...]

A group is a file beside this one.
"""

import importlib
import os
import sys

from harness import CASES, made

sys.dont_write_bytecode = True
importlib.import_module(sys.argv[2])
os.chdir(sys.argv[1])
for function in CASES:
    name = function.__name__
    if name not in sys.argv[3:] and sys.argv[3:]:
        continue
    os.umask(0o022)
    os.mkdir(name)
    os.chdir(name)
    top = os.getcwd()
    made("file", b"some content")
    os.symlink("file", "link")
    os.mkdir("dir")
    try:
        answer = function()
    except Exception as e:  # as an answer, to be compared
        answer = repr(e)
    os.chdir(top)
    os.chdir("..")
    print(f"{name}: {answer}", flush=True)
