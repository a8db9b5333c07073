from dwalign.zoo.augment import Augmentation, augment
from dwalign.zoo.datasets import DataError, Dataset, load
from dwalign.zoo.pairs import held_out_pairs, random_pairs
from dwalign.zoo.storage import Zoo, ZooError, ZooSize, get_zoo
from dwalign.zoo.text import load_topics
from dwalign.zoo.train import Recipe, train_further, train_networks

__all__ = [
    "Augmentation",
    "DataError",
    "Dataset",
    "Recipe",
    "Zoo",
    "ZooError",
    "ZooSize",
    "augment",
    "get_zoo",
    "held_out_pairs",
    "load",
    "load_topics",
    "random_pairs",
    "train_further",
    "train_networks",
]
