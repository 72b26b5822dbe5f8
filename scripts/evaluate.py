"""Measure runs from their checkpoints."""

from gan.commands.evaluate import main

if __name__ == "__main__":
    main()
