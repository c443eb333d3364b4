"""`python -m tuneport.cli`, the same as the console script."""

import sys

from tuneport.cli import main

# `-m` lets Python import from the working folder first. A file there that is named like a library must not run.
if not sys.flags.safe_path:
    del sys.path[0]

main()
