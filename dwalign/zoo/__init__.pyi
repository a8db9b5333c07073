from dwalign.zoo.augmentation import Augmentation as Augmentation, augment as augment
from dwalign.zoo.datasets import DataError as DataError, Dataset as Dataset, load as load
from dwalign.zoo.many import make_networks as make_networks
from dwalign.zoo.pairs import held_out_pairs as held_out_pairs, random_pairs as random_pairs
from dwalign.zoo.recipe import Recipe as Recipe
from dwalign.zoo.records import Networks as Networks, open_networks as open_networks, save_networks as save_networks
from dwalign.zoo.storage import Zoo as Zoo, ZooError as ZooError, ZooSize as ZooSize, get_zoo as get_zoo
from dwalign.zoo.text import load_topics as load_topics
from dwalign.zoo.train import train_further as train_further, train_networks as train_networks
