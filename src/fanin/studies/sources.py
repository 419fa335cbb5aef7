"""The texts whose claims the studies judge, by what they are."""

__all__ = ["ARTICLE", "ASSIGNMENT", "NOTEBOOK", "NOTES", "OWN", "TUTORIAL"]

TUTORIAL = "tutorial: Xavier against He on CIFAR-10"
ASSIGNMENT = "assignment: four initializers on MNIST"
NOTEBOOK = "notebook: the initializers of Keras"
NOTES = "lecture notes: what not to do"
ARTICLE = "article: choosing a strategy"
OWN = "this project's own question"
