"""Sample from a run's checkpoint."""

from gan.commands.generate import main

if __name__ == "__main__":
    main()
