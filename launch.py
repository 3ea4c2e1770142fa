"""Runs a module with the python3 on the PATH: what Bazel's targets start.

Bazel's own Python, whichever toolchain picks it, does not see the packages of an activated virtual
environment. So each target starts this file with a module's name, and this file hands over to the
environment that `requirements.txt` was installed in: `python3 -m MODULE ARGUMENTS`.
"""

import os
import sys


def main(arguments: list[str]) -> None:
    """Replaces this process by `python3 -m` with the arguments, this folder on its path."""
    root = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 (links must stay)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    environment["PYTHONPATH"] = root
    if arguments[0] == "pytest":
        arguments = [*arguments, "-p", "no:cacheprovider"]
        if "XML_OUTPUT_FILE" in environment:
            arguments.append(f"--junitxml={environment['XML_OUTPUT_FILE']}")
        os.chdir(root)
    elif "BUILD_WORKING_DIRECTORY" in environment:  # `bazel run`: paths are the caller's
        os.chdir(environment["BUILD_WORKING_DIRECTORY"])
    os.execvpe("python3", ["python3", "-m", *arguments], environment)


if __name__ == "__main__":
    main(sys.argv[1:])
