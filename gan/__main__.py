"""The program `gan`, for an environment whose programs the shell does not find."""

from gan.commands import main

if __name__ == "__main__":
    main()
