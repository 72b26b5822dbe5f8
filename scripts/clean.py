"""Make room among runs."""

from gan.commands.clean import main

if __name__ == "__main__":
    main()
