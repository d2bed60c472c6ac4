"""Run the `ltdata` command: ``python -m ltdata``, and what is installed as ``ltdata``."""

from ltdata import signals


def main() -> None:
    """Answer signals, then import the rest, which takes most of a second."""
    signals.answer("ltdata")
    from ltdata import cli

    cli.main()


if __name__ == "__main__":
    main()
