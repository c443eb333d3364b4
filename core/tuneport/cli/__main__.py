"""`python -m tuneport.cli`, the same as the console script."""

from tuneport.cli import main

main()
