import os
import pty
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCRIPT = """
from ptkeras._progress import track, working
with working("Converting"):
    pass
for i in track(range(3), "Pruning"):
    print("row", i)
"""


def shown(terminal):
    """What a script prints on standard output and on standard error."""
    command = [sys.executable, "-c", SCRIPT]
    environment = os.environ | {"TERM": "xterm", "PYTHONPATH": str(ROOT)}
    if not terminal:
        done = subprocess.run(command, capture_output=True, env=environment, check=True)
        return done.stdout.decode(), done.stderr.decode()
    main, side = pty.openpty()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=side, env=environment) as process:
        os.close(side)
        seen = b""
        try:
            while part := os.read(main, 4096):
                seen += part
        except OSError:  # the other side has closed
            pass
        out = process.stdout.read()
    os.close(main)
    return out.decode(), seen.decode()


def test_a_log_has_no_bars():
    out, error = shown(terminal=False)
    assert out == "row 0\nrow 1\nrow 2\n"
    assert "Pruning" not in error and "Converting" not in error


def test_a_terminal_has_them_and_results_keep_their_place():
    out, error = shown(terminal=True)
    assert out == "row 0\nrow 1\nrow 2\n"
    assert "Converting" in error and "Pruning" in error and "100%" in error
