"""Run the `ltdata` command: ``python -m ltdata``."""

from ltdata.cli import main

main()
