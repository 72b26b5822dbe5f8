"""Write the generator of a run for other programs."""

from gan.commands.export import main

if __name__ == "__main__":
    main()
