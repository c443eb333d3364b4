"""`python -m tuneport.cli`, which does the same as the console script."""

import sys

from tuneport.cli import main

# With `-m`, Python imports from the working folder first. A file there must not run because it is named like a library.
if not sys.flags.safe_path:
    del sys.path[0]

main()
