"""Manners that all commands of `training` share."""

import subprocess
import sys

import pytest

from training import ablate, crossval

# Sends itself Ctrl-C when the command imports numpy, as `python -m` runs it.
INTERRUPTED = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
signal.signal(signal.SIGINT, signal.default_int_handler)
import runpy
sys.argv[0] = "-m"
runpy._run_module_as_main(sys.argv[1])
"""


DOORS = ("fit", "crossval", "ablate", "zeroshot", "export", "probe", "report", "bench")


@pytest.mark.parametrize("door", DOORS)
def test_ctrl_c_during_the_imports_is_one_line(door):
    command = [sys.executable, "-c", INTERRUPTED, f"training.{door}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, f"training.{door}: interrupted\n")


@pytest.mark.parametrize("program", [crossval, ablate])
def test_ctrl_c_is_one_line(program, micro_arguments, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "load_dataset", interrupt)
    table = ["--table", "3"] if program is ablate else []
    assert program.main([*micro_arguments, *table]) == 130
    assert capsys.readouterr().err == f"{program._PROGRAM}: interrupted\n"
