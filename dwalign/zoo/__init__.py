from dwalign.zoo.augment import Augmentation, augment
from dwalign.zoo.datasets import Batch, DataError, Dataset, load
from dwalign.zoo.pairs import held_out_pairs, random_pairs, size, take
from dwalign.zoo.storage import Zoo, ZooError, ZooSize, get_zoo, load_params, save_params
from dwalign.zoo.train import Recipe, accuracy, cross_entropy, mean_squared_error, train_networks, within

__all__ = [
    "Augmentation",
    "Batch",
    "DataError",
    "Dataset",
    "Recipe",
    "Zoo",
    "ZooError",
    "ZooSize",
    "accuracy",
    "augment",
    "cross_entropy",
    "get_zoo",
    "held_out_pairs",
    "load",
    "load_params",
    "mean_squared_error",
    "random_pairs",
    "save_params",
    "size",
    "take",
    "train_networks",
    "within",
]
