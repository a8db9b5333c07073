from dwalign.zoo.augment import Augmentation, augment
from dwalign.zoo.datasets import DataError, Dataset, load
from dwalign.zoo.many import make_networks
from dwalign.zoo.pairs import held_out_pairs, random_pairs
from dwalign.zoo.records import Networks, open_networks, save_networks
from dwalign.zoo.storage import Zoo, ZooError, ZooSize, get_zoo
from dwalign.zoo.text import load_topics
from dwalign.zoo.train import Recipe, train_further, train_networks

__all__ = [
    "Augmentation",
    "DataError",
    "Dataset",
    "Networks",
    "Recipe",
    "Zoo",
    "ZooError",
    "ZooSize",
    "augment",
    "get_zoo",
    "held_out_pairs",
    "load",
    "load_topics",
    "make_networks",
    "open_networks",
    "random_pairs",
    "save_networks",
    "train_further",
    "train_networks",
]
