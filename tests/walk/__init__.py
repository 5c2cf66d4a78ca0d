"""The interleaving walk: compiles the shipped source into steps and explores every order of them."""
