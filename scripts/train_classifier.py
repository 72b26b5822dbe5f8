"""Train a classifier that metrics take their features from."""

from gan.commands.train_classifier import main

if __name__ == "__main__":
    main()
