"""``python -m pounce.options`` prints the reference page."""

from ._page import option_table_markdown


def main() -> None:
    """Print the page."""
    print(option_table_markdown(), end="")


if __name__ == "__main__":
    main()
