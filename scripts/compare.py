"""Compare runs."""

from gan.commands.compare import main

if __name__ == "__main__":
    main()
