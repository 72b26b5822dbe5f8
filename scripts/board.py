"""Open TensorBoard on runs."""

from gan.commands.board import main

if __name__ == "__main__":
    main()
