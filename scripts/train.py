"""Train one GAN, or a sweep of GANs."""

from gan.commands.train import main

if __name__ == "__main__":
    main()
