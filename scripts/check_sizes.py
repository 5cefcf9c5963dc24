#!/usr/bin/env python3
"""Checks lengths: files up to 400 lines and functions up to 40; over 600 and over 60 is an error, between a warning.

Functions are found by their layout, which clang-format guarantees: a line that ends in "{" at the indentation of a
function, up to the next line that closes it there. Usage: check_sizes.py FILE...
"""
import re
import sys

FILE_WARNING, FILE_ERROR = 400, 600
FUNCTION_WARNING, FUNCTION_ERROR = 40, 60
SIGNATURE = re.compile(
    r"(?!(?:namespace|class|struct|enum|union|using|extern|return|if|else|for|while|do|switch|case)\b)[A-Za-z_~].*\("
)


def functions(lines):
    """(first line, number of lines) of every function: free ones and members defined in their class."""
    for indent in ("", "  "):
        begin, in_body = None, False
        for number, line in enumerate(lines, start=1):
            text = line[len(indent):] if line.startswith(indent) else ""
            if begin is None and SIGNATURE.match(text):
                begin, in_body = number, False
            if begin is None:
                continue
            if in_body and text.startswith("}"):
                yield begin, number - begin + 1
                begin = None
            elif not in_body and line.endswith("{"):
                in_body = True
            elif not in_body and line.endswith((";", "}", ":")):  # a declaration, or all on one line
                begin = None


def report(where, num_lines, warning, error):
    """Prints a complaint if there is one; true if it is an error."""
    if num_lines <= warning:
        return False
    kind = "error" if num_lines > error else "warning"
    print(f"{where}: {kind}: {num_lines} lines, wanted at most {warning}")
    return kind == "error"


def main():
    num_errors = 0
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
        num_errors += report(path, len(lines), FILE_WARNING, FILE_ERROR)
        for begin, num_lines in functions(lines):
            num_errors += report(f"{path}:{begin}", num_lines, FUNCTION_WARNING, FUNCTION_ERROR)
    return 1 if num_errors else 0


if __name__ == "__main__":
    sys.exit(main())
