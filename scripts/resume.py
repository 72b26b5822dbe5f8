"""Continue an interrupted run or sweep."""

from gan.commands.resume import main

if __name__ == "__main__":
    main()
